"""A web program whose long work is done by tasktrail. Its event loop is never blocked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.sse import EventSourceResponse
from work import count_words

from tasktrail import AsyncClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient.connect("data") as app.state.tasks:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/counts", status_code=202)
async def submit(text: str) -> int:
    return (await count_words.using(app.state.tasks).submit_async(text)).id


@app.get("/counts/{task_id}/events", response_class=EventSourceResponse)
async def follow(task_id: int) -> AsyncIterator[dict[str, Any]]:
    async for record in app.state.tasks.follow(task_id=task_id):
        yield record.flat()
        if record.ends_life:
            return


@app.get("/counts/{task_id}")
async def result(task_id: int) -> int:
    return await count_words.using(app.state.tasks).handle_async(task_id).result(timeout=60)
