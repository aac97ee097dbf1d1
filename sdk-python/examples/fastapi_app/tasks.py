"""Tasks of the web app: importable by the server and by a worker, `jobwire-worker tasks:app`."""

from pydantic import BaseModel

from jobwire import App

app = App()


class Mail(BaseModel):
    to: str
    body: str = ""


class Receipt(BaseModel):
    to: str
    characters: int


@app.task("mail.deliver", queue="mail")
async def deliver(mail: Mail) -> Receipt:
    return Receipt(to=mail.to, characters=len(mail.body))
