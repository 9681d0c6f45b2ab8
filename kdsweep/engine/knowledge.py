"""The one door to a teacher's taps: stored where samples repeat, else computed live."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from kdsweep.engine.store import TapStore, folder_bytes, pack, unpack
from kdsweep.models.base import Model
from kdsweep.types import Batch, TapInfo, Taps

FORMAT = 1


Packed: TypeAlias = dict[str, tuple[Tensor, float]]
"""Packed tensor and scale (`store.pack`) of each tap of one sample."""


@dataclass(frozen=True)
class TeacherBatch:
    """What the data loader hands over when knowledge is stored.

    Attributes:
        batch: The whole batch, for the student.
        stored: What the store holds, by sample.
        alone: The samples that it does not hold whole and undamaged, each as a batch of one.
    """

    batch: Batch
    stored: Mapping[str, Packed]
    alone: tuple[Batch, ...]


class Knowledge:
    """Gives the taps of a frozen teacher in eval mode, in float32, detached.

    With a store, every sample is asked of the teacher once, *as a batch of one*, and what is used
    is always what the store would give back (float16, see `store.pack`): so a run's weights do not
    depend on who filled the store, on the other samples of the batch, on the size cap or on damage.
    Without a store the teacher sees the whole batch, and its taps are used as they are.

    Attributes:
        store: The stored taps, or None where samples never repeat.
        computed: Samples that the teacher has been asked for, in this process.
    """

    def __init__(
        self,
        teacher: Model,
        taps: frozenset[str],
        *,
        device: torch.device,
        autocast: bool = False,
        store: TapStore | None = None,
    ) -> None:
        """Freezes the teacher; it moves to the device when it is first asked.

        Args:
            teacher: With its trained weights.
            taps: The taps that the method's active terms need; only these are kept and stored, or,
                where one is nothing but rows of another (`TapInfo.rows_of`), the other.
            device: Where the student trains.
            autocast: Whether the teacher computes in bfloat16.
            store: Where taps are kept, or None.
        """
        self.store = store
        self.computed = 0
        self._teacher = teacher.eval().requires_grad_(False)
        self._on_device = False
        infos = teacher.taps()
        self._wanted = {name: infos[name] for name in sorted(taps)}
        kept = {info.rows_of[0] if info.rows_of else name for name, info in self._wanted.items()}
        self._infos: Mapping[str, TapInfo] = {name: infos[name] for name in sorted(kept)}
        self._device = device
        self._autocast = autocast

    def collate(
        self, collate: Callable[[Sequence[Any]], Batch]
    ) -> Callable[[Sequence[Any]], Batch | TeacherBatch]:
        """The task's collation, extended by what `__call__` needs."""
        return collate if self.store is None else Collate(collate, self.store, self._infos)

    def __call__(self, item: Batch | TeacherBatch) -> Taps:
        """The teacher's taps for a batch, on the training device.

        Args:
            item: What the loader gave: with a store a `TeacherBatch`, on any device; without one a
                batch on the training device.
        """
        if not isinstance(item, TeacherBatch):
            self.computed += len(item.sample_ids)
            return self._expand(self._ask(item), item)
        entries = dict(item.stored)
        for batch in item.alone:
            entries[batch.sample_ids[0]] = self._answer(batch.to(self._device))
        kept = {
            name: torch.cat(
                [
                    unpack(packed.to(self._device, non_blocking=True), scale)
                    for packed, scale in (entries[sample][name] for sample in item.batch.sample_ids)
                ]
            )
            for name in self._infos
        }
        return self._expand(kept, item.batch)

    def _expand(self, kept: dict[str, Tensor], batch: Batch) -> Taps:
        """Adds the taps that are rows of others, and leaves out what was not asked for."""
        taps = {}
        for name, info in self._wanted.items():
            if info.rows_of is None:
                taps[name] = kept[name]
            else:
                tap, field = info.rows_of
                taps[name] = kept[tap][getattr(batch, field).to(self._device)]
        return taps

    @torch.no_grad()
    def _ask(self, batch: Batch) -> dict[str, Tensor]:
        if not self._on_device:
            self._teacher.to(self._device)
            self._on_device = True
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            taps = self._teacher(batch)
        return {name: taps[name].detach().float() for name in self._infos}

    def _answer(self, alone: Batch) -> Packed:
        assert self.store is not None
        (sample,) = alone.sample_ids
        self.computed += 1
        answer = {}
        for name, tap in self._ask(alone).items():
            packed, scale = answer[name] = pack(tap)
            if not self.store.full:
                self.store.write(name, sample, packed.cpu(), scale)
        return answer


@dataclass(frozen=True)
class Collate:
    """Collates a batch and reads what the store holds of it; picklable, for reader processes."""

    collate: Callable[[Sequence[Any]], Batch]
    store: TapStore
    infos: Mapping[str, TapInfo]

    def __call__(self, samples: Sequence[Any]) -> TeacherBatch:
        """Joins the samples of a batch."""
        batch = self.collate(samples)
        stored, alone = {}, []
        for i, (sample, identity) in enumerate(zip(samples, batch.sample_ids, strict=True)):
            found = self._find(batch, i)
            if found is None:
                alone.append(self.collate([sample]))
            else:
                stored[identity] = found
        return TeacherBatch(batch, stored, tuple(alone))

    def _find(self, batch: Batch, index: int) -> Packed | None:
        found = {}
        for name, info in self.infos.items():
            entry = self.store.read(name, batch.sample_ids[index])
            if entry is None or len(entry[0]) != batch.row_counts(info.axes[0])[index]:
                return None
            found[name] = entry
        return found


def open_store(home: Path, *, cap_gb: float, teacher_digest: str, **facts: Any) -> TapStore | None:
    """The store of one teacher's answers about one data set.

    Args:
        home: Folder shared by the runs of this machine.
        cap_gb: Size cap of all knowledge under `home`, in 10^9 bytes; 0 stores nothing. Half of the
            space that is free now is a cap, too.
        teacher_digest: Digest of the teacher's weights.
        facts: Whatever else changes the answers (what the teacher computes from its weights, the
            data, its augmentation, the precision), as JSON can hold it.

    Returns:
        The store, or None where nothing is to be stored.
    """
    if cap_gb <= 0:
        return None
    text = json.dumps({"format": FORMAT, "teacher": teacher_digest, **facts}, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    folder = home / "knowledge"
    (folder / key).mkdir(parents=True, exist_ok=True)
    (folder / key / "about.json").write_text(text)
    room = folder_bytes(folder) + shutil.disk_usage(folder).free // 2
    cap_bytes = min(int(cap_gb * 1e9), room)
    return TapStore(folder / key, counted=folder, cap_bytes=cap_bytes)
