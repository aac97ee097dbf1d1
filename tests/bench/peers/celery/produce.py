"""Celery's producer. It has no call for many jobs: one publish each, on one producer that stays open."""

from __future__ import annotations

from app import app, noop
from lines import job, paced, serve, until


def one(seconds):
    more, done = until(seconds), 0
    while more():
        noop.delay(**job())
        done += 1
    return done


def many(seconds=None, jobs=float("inf")):
    more, done = until(seconds, jobs), 0
    with app.producer_pool.acquire(block=True) as producer:
        while more():
            noop.apply_async(kwargs=job(), producer=producer)
            done += 1
    return done


serve(one=one, many=many, paced=lambda rate, jobs: paced(rate, jobs, lambda given: noop.delay(**given) and None))
