"""Hello, producer: enqueues a job and prints its result. Start hello_worker.py as well."""

# [hello]
from hello_worker import greet

job = greet.enqueue("Ada")
print(job.id)
print(job.result(timeout=20))
# [/hello]
