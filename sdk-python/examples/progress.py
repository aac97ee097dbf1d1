"""Progress, checkpoints and logs of a running job, and how to follow them."""

from jobwire import App, Context, LogEvent, ProgressEvent, StateEvent

app = App()


# [handler]
@app.task("import.rows", retry=3)
def import_rows(ctx: Context, rows: list[int]) -> int:
    done: int = ctx.checkpoint or 0  # where an earlier attempt stopped
    for row in rows[done:]:
        done += 1
        ctx.progress(100 * done / len(rows), message=f"row {row}")
        ctx.save_checkpoint(done)
    ctx.log.info("imported %d rows", done)  # any logger will do
    return done


# [/handler]


def main() -> None:
    # [follow]
    for event in import_rows.enqueue([3, 1, 2]).events():
        match event:
            case StateEvent(state):
                print(state.value)
            case ProgressEvent(progress):
                print(progress.percent, progress.message)
            case LogEvent(message=message):
                print(message)
    # [/follow]


if __name__ == "__main__":
    main()
