import os
import tempfile

import django
import pytest
from django.core.management import call_command

os.environ["DJANGO_SETTINGS_MODULE"] = "project"
os.environ["SHOP_DATABASE"] = os.path.join(tempfile.mkdtemp(), "shop.sqlite3")
django.setup()


@pytest.fixture(scope="session", autouse=True)
def tables():
    call_command("migrate", run_syncdb=True, verbosity=0)
