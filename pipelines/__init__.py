"""The pipelines that are shipped: the objects of CRM and tasks, mirrored into a SQL table.

Each module says for its events which chain runs. Add your own beside them, or name other modules in `B24_PIPELINES`.
"""

from b24offline.pipelines import crm, project_tasks

__all__ = ["crm", "project_tasks"]
