"""What a change costs: the pipeline beside bare Celery and beside a plain loop, measured in interleaved rounds."""
