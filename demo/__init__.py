"""The pipeline at work on an emulated portal: ``python -m demo``. Needs nothing but the installed extras."""
