"""The training loop: what every trainer does, from top to bottom."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Any

import torch

from mimray.environment import compile_cache
from mimray.errors import MimrayError, own_words
from mimray.mim.compiling import accelerate
from mimray.mim.guard import build_guard
from mimray.mim.learner import Learner
from mimray.mim.parallel import average_statistics, replicate, running_statistics
from mimray.mim.step import train_step
from mimray.optim import averaged, rate_at, set_learning_rate
from mimray.train import checkpoint
from mimray.train.batches import Batches
from mimray.train.group import Votes, agree, gather, join_group, preempted
from mimray.train.heartbeat import Heart
from mimray.train.job import Job
from mimray.train.mailbox import RemotePost
from mimray.train.memory import out_of_memory
from mimray.train.recorder import Recorder
from mimray.train.rollback import Rollback
from mimray.train.state import shard_of
from mimray.train.streams import rank_stream

STOP, PREEMPTED = 1, 2
"""What a trainer votes for: the user's request, or Ray's notice that a host will be taken away."""


def train(job: Job) -> dict[str, Any]:
    """Train from the newest checkpoint to the end of the run: what Ray Train starts in every trainer, and
    what runs in the driver's own process where a run needs no more.

    Returns `{"status": "finished" | "stopped" | "preempted", "step": steps done}` on every rank.
    """
    task, recipe, run = job.task, job.recipe, job.run
    if Path(job.folder).is_dir():  # Ray Train has moved us; the recipe's paths are the user's
        os.chdir(job.folder)
    trainer = join_group(recipe)
    post = job.post or RemotePost(job.mailbox, run.token)
    heart = Heart(job.mailbox, trainer.rank, run.token)
    heart.start()
    recorder: Recorder | None = None
    try:
        # ----- model, optimiser, and where to go on ------------------------------------------------
        start = agree(trainer, checkpoint.newest(run) or 0 if trainer.rank == 0 else 0)
        torch.manual_seed(recipe.run.seed)
        model = task.build(fresh=not start).to(trainer.device)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compile_cache()))
        accelerate(model, recipe.speed, trainer.device)
        replicas = replicate(model, recipe.speed.parallel, trainer.device, trainer.bf16)
        optimizer = task.optimizer(model)
        guard = build_guard(recipe.optim, trainer.device)
        kept = checkpoint.load(run, start, model, optimizer) if start else {}
        if start:
            guard.load(kept["guard"])
        rollback = Rollback(recipe.optim, trainer, kept.get("rollbacks", 0))

        # ----- data: exactly what the plan says, from there on -------------------------------------
        plan = job.plan(start)
        pin = trainer.device.type == "cuda"
        stream = rank_stream(job, plan, trainer.rank, pin)
        batches = Batches(stream, plan, trainer.rank, trainer.device)
        validation = task.validation(job, trainer)
        clock, like_official = job.clock, recipe.optim.like_official
        validate_every = clock.steps(recipe.run.validate_every)
        checkpoint_every = clock.steps(recipe.run.checkpoint_every)
        about = {
            "workers": trainer.ranks,
            "hosts": gather(trainer, socket.gethostname()),
            "device": trainer.device.type,
            "precision": "bf16" if trainer.bf16 else "float32",
        }
        this_start = gather(trainer, uuid.uuid4().hex)[0]
        shard = shard_of(model, trainer.rank, trainer.ranks, this_start)
        damaged = kept.get("damaged", [])
        recorder = Recorder(job, post, heart, trainer, guard, shard, start, about, damaged)
        votes = Votes(trainer)

        # ----- steps -------------------------------------------------------------------------------
        for position, received in batches:
            heart.computing()
            step = position + 1
            rate = rate_at(position, recipe.optim, recipe.schedule, clock, len(received))
            set_learning_rate(optimizer, rate)
            epoch = plan.epoch(position)
            micro = [task.micro_batch(r, epoch) for r in received]
            result = train_step(
                replicas, optimizer, micro, recipe.optim.clip, trainer.bf16, like_official, guard
            )
            recorder.add(step, result, rate(1.0), batches.waited)
            recorder.damaged("train", batches.damaged)
            if rollback.due(guard):
                with recorder.pause():
                    back = rollback.go_back(run, recorder.saver, model, optimizer, guard)
                recorder.rolled_back(back)

            request = votes.cast(STOP if post.stop_requested() else PREEMPTED * preempted(trainer))
            last = step == plan.stop
            if last or step % validate_every == 0:
                with recorder.pause():
                    share_statistics(model, optimizer)
                    metrics = validation.run(model, optimizer)
                    picture = validation.picture(model)  # all ranks, for FSDP gathers from all
                recorder.validated(metrics, picture)
                recorder.damaged("val", validation.damaged)
            recorder.write_row(force=last or bool(request))
            if last or request or step % checkpoint_every == 0:
                with recorder.pause():
                    late = recorder.saver.late(wait=last or bool(request))
                    if agree(trainer, int(late)):
                        recorder.save_left_out()
                    else:
                        share_statistics(model, optimizer)
                        found = gather(trainer, recorder.found)
                        recorder.save(model, optimizer, found, rollback.done)
            recorder.report_saved()
            heart.step_ended()
            if request and not last:
                votes.close()
                recorder.close()
                return {"status": "stopped" if request == STOP else "preempted", "step": step}
        votes.close()
        recorder.close()
        return {"status": "finished", "step": plan.stop}
    except Exception as error:  # of ours, it would come again if the trainers started again
        if isinstance(error, MimrayError) and job.post is not None:
            raise  # the driver is right here
        if words := out_of_memory(error, recipe, job.micro_batch) or own_words(error):
            post.send("failed", error=words)
        raise
    finally:
        post.flush()
        if recorder is not None:
            with heart.pause():
                recorder.saver.finish()  # a checkpoint that is being written is worth waiting for
        post.flush()
        heart.stop()


def share_statistics(model: Learner, optimizer: torch.optim.Optimizer) -> None:
    """Give all ranks the mean of their running statistics, and of the averages of these."""
    average_statistics(model)
    if any(buffer in optimizer.state for buffer in running_statistics(model).values()):
        with averaged(model, optimizer):
            average_statistics(model)
