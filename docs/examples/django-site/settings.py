"""The settings of a site with nothing but the views of this folder."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "only for this example")
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "views"
TASKTRAIL_DATA = os.environ.get("TASKTRAIL_DATA", "data")
