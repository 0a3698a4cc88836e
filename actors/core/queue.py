"""The queue of the tasks that only wait for free resources, and the order in which users take turns.

This is the seed's TaskQueue: push, pop, peek, remove and len in O(log n). Tasks that share type, user and label come
under the same limits, so they stand in one bucket, which is a heap. The buckets' first tasks stand in a heap of heads.
A bucket that a limit or a pause keeps from starting is parked at this limit or pause, and comes back when it is over:
a million tasks of a type that is at its limit cost nothing while others start.

If users share the machine fairly, the one with the fewest running attempts goes first; of two with equally many, the
one whose last start is longer ago. So users take turns even if there is only one slot.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace, merge, nsmallest
from itertools import count, islice
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from ...events import TaskState
from ...events.priority import queue_key
from .limits import LimitKey, LimitKeys, LimitKind, queue_keys_of, requirement

Entry: TypeAlias = tuple[float, int, int]
"""Key, id, number of the bucket. As it holds only numbers, the garbage collector skips these million tuples."""
KNOWN_USERS = 10_000
"""How many users' last starts are remembered. A user whose last start is further back counts as one without any."""


class Share(NamedTuple):
    """A user's share of the machine so far. The user with the smallest goes first."""

    running: int
    last_start: int
    """Position of the user's last `Started`; 0 if none is remembered."""


EQUAL = Share(0, 0)
"""Every user's share while the machine is not shared fairly."""


class FairShare(msgspec.Struct):
    """When each user's last attempt started. A fold of the log."""

    last_starts: dict[int, int] = {}
    """User → position of the last `Started`; the user who has waited longest first."""

    def take(self, user_id: int, position: int) -> int | None:
        """Note a start of the user at `position`. Returns the user who is forgotten in return, if any."""
        self.last_starts.pop(user_id, None)
        self.last_starts[user_id] = position
        if len(self.last_starts) <= KNOWN_USERS:
            return None
        forgotten = next(iter(self.last_starts))
        del self.last_starts[forgotten]
        return forgotten

    def of(self, user_id: int) -> int:
        """Position of the user's last `Started`, or 0."""
        return self.last_starts.get(user_id, 0)


class UserQueue(NamedTuple):
    """The waiting tasks of one user."""

    share: Share
    best: Entry
    others: Callable[[], Iterator[Entry]]
    """Yields the tasks after the best one, best first. It is called for few users."""


class UserStanding(NamedTuple):
    """How one user stands in the queue."""

    share: Share
    best: Entry
    """The best waiting task."""
    waiting: int

    def with_more(self, other: "UserStanding") -> "UserStanding":
        """The same, with the tasks of another bucket."""
        return UserStanding(self.share, min(self.best, other.best), self.waiting + other.waiting)


_LATER = 2**63
"""Greater than every position in the log."""


def in_turns(queues: Iterable[UserQueue]) -> Iterator[Entry]:
    """The tasks of all users in the order in which they would start if there were slots for all and nothing ended."""
    listed = list(queues)
    heap = [(queue.share, queue.best, number) for number, queue in enumerate(listed)]
    heapify(heap)
    others: dict[int, Iterator[Entry]] = {}
    starts = count(_LATER)
    while heap:
        share, entry, number = heap[0]
        yield entry
        if number not in others:
            others[number] = listed[number].others()
        following = next(others[number], None)
        if following is None:
            heappop(heap)
        else:
            heapreplace(heap, (Share(share.running + 1, next(starts)), following, number))


def ahead_in_turns(mine: UserStanding, own_ahead: int, others: Iterable[UserStanding]) -> int:
    """How many tasks come `in_turns` before the task of `mine` that has `own_ahead` before it, without looking at each.

    It starts when its user has `own_ahead` more attempts running than now. By then every other user has as many in all,
    or one more if that user's turn comes first. Of two users with equally many running, the one who began with more
    comes first, because the other one had a start more recently.
    """
    running = mine.share.running + own_ahead
    turn = (-mine.share.running, mine.share.last_start, mine.best)
    ahead = own_ahead
    for other in others:
        first = (-other.share.running, other.share.last_start, other.best) < turn
        ahead += min(other.waiting, max(0, running - other.share.running + first))
    return ahead


_Head: TypeAlias = tuple[Share, float, int, int]
"""Share of the user, then the first entry of the bucket. It is stale once it is no longer its bucket's `head`."""
_SLACK = 64


class Bucket:
    """The tasks that come under the same limits, best first; some entries may be of tasks that have left."""

    __slots__ = ("head", "heap", "keys", "live", "number", "parked_at", "woken_by")

    def __init__(self, number: int, keys: LimitKeys) -> None:
        self.number = number
        self.keys = keys
        self.heap: list[Entry] = []
        self.live = 0
        self.head: _Head | None = None
        """Its entry among the heads, or among the parked ones."""
        self.parked_at: LimitKey | None = None
        self.woken_by: LimitKey | None = None
        """The limit whose end brought it back. When this bucket moves, the next one parked there comes back."""


def _always_open(_gate: LimitKey) -> bool:
    return False


class ReadyQueue:
    """Tasks that may start as soon as there are free resources, best first.

    Args:
        is_closed: whether a limit or a pause keeps everything of a type, user or label from starting now.
        share: a user's share of the machine so far; the smallest goes first. Without it, all users are equal.
    """

    def __init__(
        self, is_closed: Callable[[LimitKey], bool] = _always_open, share: Callable[[int], Share] | None = None
    ) -> None:
        self._is_closed = is_closed
        self._share = share
        self._entries: dict[int, Entry] = {}
        self._buckets: dict[LimitKeys, Bucket] = {}
        self._by_number: dict[int, Bucket] = {}
        self._numbers = count()
        self._heads: list[_Head] = []
        self._passed_over: list[_Head] = []
        self._parked: dict[LimitKey, list[_Head]] = {}
        self._of_user: dict[str | int, dict[LimitKeys, Bucket]] = {}
        self.changes = 0
        """Counts everything that may make another task the next one."""

    def push(self, task: TaskState) -> None:
        """Put a task in its place. A task that is already there moves to its new place."""
        key = queue_key(task)
        old = self._entries.get(task.id)
        if old is not None and old[:2] == key:
            return
        self.changes += 1
        bucket = self._by_number[old[2]] if old is not None else self._bucket(queue_keys_of(task))
        entry = (*key, bucket.number)
        self._entries[task.id] = entry
        heappush(bucket.heap, entry)
        bucket.live += old is None
        self._tidy(bucket)
        self._settle(bucket)

    def fill(self, tasks: Iterable[TaskState]) -> None:
        """Add tasks that are not there yet. Each bucket is put in order only once."""
        self.changes += 1
        grown: dict[tuple[str, int, str, str, str], Bucket] = {}
        for task in tasks:
            spec = task.spec
            behind = (
                spec.type,
                spec.user_id,
                spec.label,
                spec.worker_label,
                requirement(spec.requires) if spec.requires else "",
            )
            bucket = grown.get(behind)
            if bucket is None:
                bucket = grown[behind] = self._bucket(queue_keys_of(task))
            entry = (*queue_key(task), bucket.number)
            self._entries[task.id] = entry
            bucket.heap.append(entry)
            bucket.live += 1
        for bucket in grown.values():
            heapify(bucket.heap)
            self._settle(bucket)

    def pop(self) -> int | None:
        """Take out the task that runs next, and return its id; None if limits or pauses keep all from starting."""
        task_id = self.peek()
        if task_id is not None:
            self.remove(task_id)
        return task_id

    def peek(self) -> int | None:
        """The id of the task that runs next. It stays in the queue."""
        while self._heads:
            head = self._heads[0]
            bucket = self._by_number.get(head[3])
            if bucket is None or bucket.head is not head:
                heappop(self._heads)
                continue
            key = next(filter(self._is_closed, bucket.keys), None)
            if key is None:
                return head[2]
            heappop(self._heads)
            self._park(bucket, head, key)
        return None

    def remove(self, task_id: int) -> bool:
        """Take a task out. Returns whether it was there."""
        entry = self._entries.pop(task_id, None)
        if entry is None:
            return False
        self.changes += 1
        bucket = self._by_number[entry[2]]
        bucket.live -= 1
        self._tidy(bucket)
        self._settle(bucket)
        return True

    def pass_over(self) -> None:
        """Hide the bucket of the first task until `bring_back`. Call it after `peek`."""
        head = heappop(self._heads)
        self._passed_over.append(head)
        self._release_next(self._by_number[head[3]])

    def bring_back(self) -> None:
        """Show the buckets again that were passed over."""
        for head in self._passed_over:
            heappush(self._heads, head)
        self._passed_over.clear()

    # --- limits --------------------------------------------------------------------------------------------------

    def wake(self, key: LimitKey) -> None:
        """Bring back the best bucket that is parked at a limit: a place under the limit is free."""
        self.changes += 1
        parked = self._parked.get(key)
        if parked is None or self._is_closed(key):
            return
        while parked:
            head = heappop(parked)
            bucket = self._by_number.get(head[3])
            if bucket is not None and self._is_parked(head, key):
                bucket.parked_at, bucket.woken_by = None, key
                heappush(self._heads, head)
                return
        del self._parked[key]

    def parked_at(self, kind: LimitKind) -> list[LimitKey]:
        """The keys of this kind at which a bucket is parked."""
        return [key for key in self._parked if key[0] is kind]

    def wake_all(self) -> None:
        """Look at all buckets again, after limits, pauses or fair sharing have changed."""
        self.changes += 1
        self._parked.clear()
        self._heads.clear()
        for bucket in list(self._buckets.values()):
            bucket.head = bucket.parked_at = bucket.woken_by = None
            self._settle(bucket)

    def share_changed(self, user_id: int) -> None:
        """Put the user's buckets in order again: the user has started an attempt, or has fewer running than before."""
        self.changes += 1
        if self._share is not None:
            for bucket in list(self._of_user.get(user_id, {}).values()):
                self._settle(bucket)

    # --- questions ----------------------------------------------------------------------------------------------

    def first(self, number: int, *, fair: bool = False) -> list[int]:
        """The ids of the first tasks, whether they may start or not: by priority, or as users take turns.

        `fair`: whether users take turns now, by `share`.
        """
        best = self.in_line(lambda _key: True)
        # The first tasks can only be in buckets, or belong to users, whose best task is among the first.
        if fair:
            users = islice(_once_each(_user_of(keys) for _, _, keys in best), min(number, len(self._of_user)))
            ordered = in_turns(self._queue_of(user, number) for user in users)
        else:
            ordered = self._merged([self._buckets[keys] for _, _, keys in islice(best, number)])
        return [entry[1] for entry in islice(ordered, number)]

    def first_of(self, user_id: int, number: int) -> tuple[list[int], int]:
        """The ids of the first tasks of a user, and the number of all the user's tasks."""
        buckets = self._of_user.get(user_id, {}).values()
        first = [entry[1] for entry in islice(self._best_of(buckets, number), number)]
        return first, sum(bucket.live for bucket in buckets)

    def in_line(self, passes: Callable[[LimitKey], bool]) -> Iterator[tuple[Share, Entry, LimitKeys]]:
        """Yield the best task of each bucket, best first, with the share of its user.

        A parked bucket is included only if `passes` accepts the key at which it is parked. The cost grows with the
        number of results taken, not with the number of buckets.
        """
        parked = (self._parked_at(key) for key in self._parked if passes(key))
        for head in merge(filter(self._is_current, in_order(self._heads)), *parked):
            bucket = self._by_number[head[3]]
            yield head[0], bucket.heap[0], bucket.keys

    def _parked_at(self, key: LimitKey) -> Iterator[_Head]:
        return (head for head in in_order(self._parked[key]) if self._is_parked(head, key))

    def _queue_of(self, user: str | int, number: int) -> UserQueue:
        """The first waiting tasks of a user."""
        buckets = self._of_user[user].values()
        share = self._share(int(user)) if self._share is not None else EQUAL
        best = min(map(_best, buckets))
        return UserQueue(share, best, lambda: islice(self._best_of(buckets, number), 1, None))

    def _best_of(self, buckets: Iterable[Bucket], number: int) -> Iterator[Entry]:
        """The first tasks of some buckets. They can only be in the `number` buckets with the best first tasks."""
        return self._merged(nsmallest(number, buckets, key=_best))

    def _merged(self, buckets: Iterable[Bucket]) -> Iterator[Entry]:
        return merge(*map(self._ordered, buckets))

    def standing(self) -> tuple[Counter[LimitKey], int | None]:
        """How many tasks are parked at each limit or pause, and the best of the others. Looks at each bucket once."""
        parked: Counter[LimitKey] = Counter()
        best: Entry | None = None
        for bucket in self._buckets.values():
            if bucket.parked_at is not None:
                parked[bucket.parked_at] += bucket.live
            elif best is None or bucket.heap[0] < best:
                best = bucket.heap[0]
        return parked, None if best is None else best[1]

    def best_of(self, user: int) -> list[tuple[LimitKeys, Entry]]:
        """The best task of each bucket of a user."""
        return [(keys, bucket.heap[0]) for keys, bucket in self._of_user.get(user, {}).items()]

    def after_best(self, keys: LimitKeys) -> Iterator[Entry]:
        """The other tasks of the same bucket, best first."""
        return islice(self._ordered(self._buckets[keys]), 1, None)

    def _ordered(self, bucket: Bucket) -> Iterator[Entry]:
        return (entry for entry in in_order(bucket.heap) if self._entries.get(entry[1]) is entry)

    def ahead_of(self, task: TaskState, *, fair: bool = False) -> Callable[[], int]:
        """Return a function that counts the tasks before one, by priority or as users take turns.

        It takes a look at each task. It may be called later and in another thread: it uses the queue as it is now.
        """
        key, entries = queue_key(task), list(self._entries.values())
        if not fair:
            return lambda: sum(1 for entry in entries if entry < key)
        mine = task.spec.user_id
        own_buckets = frozenset(bucket.number for bucket in self._of_user[mine].values())
        buckets = [(bucket.keys, bucket.head, bucket.live) for bucket in self._buckets.values()]

        def count() -> int:
            standings: dict[str | int, UserStanding] = {}
            for keys, head, waiting in buckets:
                assert head is not None, "a bucket without a task is gone"
                user, one = _user_of(keys), UserStanding(head[0], head[1:], waiting)
                standings[user] = standings[user].with_more(one) if user in standings else one
            own = sum(1 for entry in entries if entry[2] in own_buckets and entry < key)
            return ahead_in_turns(standings.pop(mine), own, standings.values())

        return count

    def __iter__(self) -> Iterator[int]:
        return iter(self._entries)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    # --- buckets ------------------------------------------------------------------------------------------------

    def _bucket(self, keys: LimitKeys) -> Bucket:
        bucket = self._buckets.get(keys)
        if bucket is None:
            bucket = self._buckets[keys] = Bucket(next(self._numbers), keys)
            self._by_number[bucket.number] = bucket
            self._of_user.setdefault(_user_of(keys), {})[keys] = bucket
        return bucket

    def _settle(self, bucket: Bucket) -> None:
        """Put the bucket where its best task belongs."""
        heap, entries = bucket.heap, self._entries
        while heap and entries.get(heap[0][1]) is not heap[0]:
            heappop(heap)
        if not heap:
            self._forget(bucket)
            return
        rank, task_id, _ = heap[0]
        share = self._share(int(_user_of(bucket.keys))) if self._share is not None else EQUAL
        head = bucket.head
        if head is not None and head[:3] == (share, rank, task_id):
            return
        bucket.head = (share, rank, task_id, bucket.number)
        bucket.parked_at = None
        heappush(self._heads, bucket.head)
        self._release_next(bucket)
        if len(self._heads) > 2 * len(self._buckets) + _SLACK:
            self._heads = [one for one in self._heads if self._is_current(one)]
            heapify(self._heads)

    def _forget(self, bucket: Bucket) -> None:
        del self._buckets[bucket.keys], self._by_number[bucket.number]
        user = _user_of(bucket.keys)
        del self._of_user[user][bucket.keys]
        if not self._of_user[user]:
            del self._of_user[user]
        bucket.head = bucket.parked_at = None
        self._release_next(bucket)

    def _park(self, bucket: Bucket, head: _Head, key: LimitKey) -> None:
        bucket.parked_at = key
        parked = self._parked.setdefault(key, [])
        heappush(parked, head)
        if len(parked) > 2 * len(self._buckets) + _SLACK:
            parked[:] = [one for one in parked if self._is_parked(one, key)]
            heapify(parked)
        self._release_next(bucket)

    def _is_current(self, head: _Head) -> bool:
        bucket = self._by_number.get(head[3])
        return bucket is not None and bucket.head is head and bucket.parked_at is None

    def _is_parked(self, head: _Head, key: LimitKey) -> bool:
        bucket = self._by_number.get(head[3])
        return bucket is not None and bucket.head is head and bucket.parked_at == key

    def _release_next(self, bucket: Bucket) -> None:
        """Bring back the next bucket parked at the limit whose end brought this one back.

        So while a limit has a free place, its best bucket is among the heads.
        """
        key, bucket.woken_by = bucket.woken_by, None
        if key is not None:
            self.wake(key)

    def _tidy(self, bucket: Bucket) -> None:
        """Drop the entries of tasks that have left, before these outnumber the others."""
        if len(bucket.heap) > 2 * bucket.live + _SLACK:
            bucket.heap = [entry for entry in bucket.heap if self._entries.get(entry[1]) is entry]
            heapify(bucket.heap)


def _best(bucket: Bucket) -> Entry:
    return bucket.heap[0]


def _user_of(keys: LimitKeys) -> str | int:
    return next(name for kind, name in keys if kind is LimitKind.USER)


_User = TypeVar("_User", bound=str | int)


def _once_each(users: Iterable[_User]) -> Iterator[_User]:
    seen: set[_User] = set()
    for user in users:
        if user not in seen:
            seen.add(user)
            yield user


_Item = TypeVar("_Item", bound=tuple[Any, ...])


def in_order(heap: list[_Item]) -> Iterator[_Item]:
    """Yield the entries of a heap, smallest first, without changing it. Each is a child of an earlier one."""
    fringe = [(heap[0], 0)] if heap else []
    while fringe:
        entry, place = heappop(fringe)
        yield entry
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap):
                heappush(fringe, (heap[child], child))
