"""Submit a hundred tasks, follow them, and await them all."""

import asyncio

from work import square

from tasktrail import AsyncClient


async def tell(tasks: AsyncClient, after: int, ids: set[int]) -> None:
    """Print how many have ended, as it happens."""
    left = set(ids)
    async for record in tasks.follow(after, events=("completed", "failed", "cancelled")):
        if record.task_id in left and record.ends_life:
            left.remove(record.task_id)
            print(f"{len(ids) - len(left)} of {len(ids)}")
        if not left:
            return


async def main() -> None:
    """The tasks share one connection for waiting, however many they are."""
    async with AsyncClient.connect("data") as tasks, asyncio.timeout(300), asyncio.TaskGroup() as group:
        after = (await tasks.stats()).position
        answers = await asyncio.gather(*(tasks.send(square.command(number)) for number in range(100)))
        ids = [answer.task_id for answer in answers]
        group.create_task(tell(tasks, after, set(ids)))
        ended = await asyncio.gather(*map(tasks.wait, ids))
        print(sum(square.result_of(task) for task in ended))


asyncio.run(main())
