"""Hello, worker: a task, and a worker that runs it until Ctrl-C."""

# [hello]
from jobwire import App

app = App()  # JOBWIRE_URL, or jobwire://127.0.0.1:7420


@app.task("hello.greet")
async def greet(name: str) -> str:
    return f"hello {name}"


if __name__ == "__main__":
    app.worker().run()
# [/hello]
