"""The training loop: what every trainer does, from top to bottom."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Any

import torch
from ray.train.v2._internal.execution.context import get_train_context

from mimray.environment import compile_cache
from mimray.errors import own_words
from mimray.mim.build import build_model
from mimray.mim.compiling import accelerate
from mimray.mim.guard import build_guard
from mimray.mim.parallel import average_statistics, replicate
from mimray.mim.step import micro_batch, train_step
from mimray.optim import build_optimizer, learning_rate, set_learning_rate
from mimray.train import checkpoint
from mimray.train.batches import Batches
from mimray.train.group import Votes, agree, gather, join_group
from mimray.train.heartbeat import Heart
from mimray.train.job import Job
from mimray.train.mailbox import Post
from mimray.train.memory import out_of_memory
from mimray.train.recorder import Recorder
from mimray.train.rollback import Rollback
from mimray.train.state import shard_of
from mimray.train.streams import rank_stream
from mimray.train.validate import Validation

STOP, PREEMPTED = 1, 2
"""What a trainer votes for: the user's request, or Ray's notice that a host will be taken away."""


def train(job: Job) -> dict[str, Any]:
    """Train from the newest checkpoint to the end of the run; the function Ray Train starts.

    Returns `{"status": "finished" | "stopped" | "preempted", "step": steps done}` on every rank.
    """
    recipe, run = job.recipe, job.run
    if Path(job.folder).is_dir():  # Ray Train has moved us; the recipe's paths are the user's
        os.chdir(job.folder)
    trainer = join_group(recipe)
    post, heart = Post(job.mailbox, run.token), Heart(job.mailbox, trainer.rank)
    heart.start()
    recorder: Recorder | None = None
    try:
        # ----- model, optimiser, and where to go on ------------------------------------------------
        torch.manual_seed(recipe.run.seed)
        model = build_model(recipe).to(trainer.device)
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(compile_cache()))
        accelerate(model, recipe.speed, trainer.device)
        replicas = replicate(model, recipe.speed.parallel, trainer.device, trainer.bf16)
        optimizer = build_optimizer(model, recipe.optim)
        guard = build_guard(recipe.optim, trainer.device)
        start = agree(trainer, checkpoint.newest(run) or 0 if trainer.rank == 0 else 0)
        kept = checkpoint.load(run, start, model, optimizer) if start else {}
        if start:
            guard.load(kept["guard"])
        rollback = Rollback(recipe.optim, trainer, kept.get("rollbacks", 0))

        # ----- data: exactly what the plan says, from there on -------------------------------------
        plan = job.plan(start)
        pin = trainer.device.type == "cuda"
        stream = rank_stream(job, plan, trainer.rank, pin)
        batches = Batches(stream, plan, trainer.rank, trainer.device)
        validation = Validation(job, trainer.rank, trainer.ranks, trainer.device, trainer.bf16)
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
            lr = learning_rate(
                position, recipe.optim.lr, recipe.schedule, clock, like_official, len(received)
            )
            set_learning_rate(optimizer, lr)
            epoch = plan.epoch(position)
            micro = [
                micro_batch(recipe, model.patch, r.images, r.rows, r.weight, epoch)
                for r in received
            ]
            result = train_step(
                replicas, optimizer, micro, recipe.optim.clip, trainer.bf16, like_official, guard
            )
            recorder.add(step, result, lr, batches.waited)
            recorder.damaged("train", batches.damaged)
            if rollback.due(guard):
                with recorder.pause():
                    back = rollback.go_back(run, recorder.saver, model, optimizer, guard)
                recorder.rolled_back(back)

            request = votes.cast(STOP if post.stop_requested() else PREEMPTED * preempted())
            last = step == plan.stop
            if last or step % validate_every == 0:
                with recorder.pause():
                    average_statistics(model)
                    metrics = validation.run(model)
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
                        average_statistics(model)
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
        if words := out_of_memory(error, recipe, job.micro_batch) or own_words(error):
            post.send("failed", error=words)
        raise
    finally:
        if recorder is not None:
            recorder.saver.finish()  # a checkpoint that is being written is worth waiting for
        post.flush()
        heart.stop()


def preempted() -> bool:
    """Whether Ray has told this trainer that a host of its group will be taken away.

    Ray's public function asks all trainers and waits for them, at every step; the votes do that beside it.
    """
    return get_train_context().preemption_context.preemption_info is not None
