"""POST /mails enqueues, GET /mails/{id} shows what came of it: `uvicorn main:api`."""

# [api]
from fastapi import FastAPI
from tasks import Mail, Receipt, app, deliver

from jobwire.contrib.fastapi import Jobs, lifespan

api = FastAPI(lifespan=lifespan(app))


@api.post("/mails", status_code=202)
async def post(mail: Mail, jobs: Jobs) -> dict[str, str]:
    job = await jobs.aenqueue(deliver.s(mail))
    return {"id": job.id}


@api.get("/mails/{id}")
async def receipt(id: str) -> Receipt:
    return await deliver.job(id).aresult(timeout="20s")


# [/api]
