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
        there = square.using(tasks)
        handles = await asyncio.gather(*(there.submit_async(number) for number in range(100)))
        group.create_task(tell(tasks, after, {handle.id for handle in handles}))
        print(sum(await asyncio.gather(*handles)))


asyncio.run(main())
