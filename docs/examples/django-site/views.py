"""Views that hand long work to tasktrail. Each web process has a client of its own; the service is one."""

from functools import cache

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.urls import path
from work import count_words

from tasktrail import Client


@cache
def tasks() -> Client:
    """Connect at the first request, so that the site starts while no service runs."""
    return Client.connect(settings.TASKTRAIL_DATA)


def submit(request: HttpRequest) -> JsonResponse:
    handle = count_words.using(tasks()).submit(request.body.decode())
    return JsonResponse({"task": handle.id}, status=202)


def result(request: HttpRequest, task_id: int) -> JsonResponse:
    task = tasks().wait(task_id, timeout=20) if "wait" in request.GET else tasks().get_task(task_id)
    return JsonResponse({"status": task.status, "message": task.message, "result": task.result})


urlpatterns = [path("counts", submit), path("counts/<int:task_id>", result)]
