"""A Flask app whose reports are made by jobs: `flask --app main run` and `jobwire-worker main:jobs`."""

# [flask]
from flask import Flask, current_app, jsonify, request

from jobwire.contrib.flask import Jobwire

jobs = Jobwire()


@jobs.task("report.make", queue="reports")
def make(name: str) -> str:
    return current_app.config["GREETING"] + name  # handlers run in the app's context


def create_app() -> Flask:
    flask = Flask(__name__)
    flask.config["GREETING"] = "Report for "
    flask.config["JOBWIRE_TIMEOUT"] = "10s"
    jobs.init_app(flask)
    return flask


flask_app = create_app()


@flask_app.post("/reports")
def post():
    job = make.enqueue(request.form["name"])
    return jsonify(id=job.id), 202


@flask_app.get("/reports/<id>")
def show(id: str):
    return jsonify(report=make.job(id).result(timeout="20s"))


# [/flask]
