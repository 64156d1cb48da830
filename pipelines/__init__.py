"""The pipelines that are shipped: the objects of CRM and tasks, mirrored into a SQL table.

Each module names the chain that runs for its events. Put your own modules in `B24_PIPELINES`.
"""

from b24offline.pipelines import crm, project_tasks

__all__ = ["crm", "project_tasks"]
