"""The same with a worker inside, for small deployments: `uvicorn with_worker:api`."""

# [worker]
from fastapi import FastAPI
from main import api as mails
from tasks import app

from jobwire.contrib.fastapi import lifespan

api = FastAPI(lifespan=lifespan(app, worker=lambda: app.worker(concurrency=5, grace="5s")))
api.include_router(mails.router)
# [/worker]
