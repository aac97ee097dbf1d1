"""The site's tasks; Django imports this module by itself."""

# [tasks]
from jobwire import Context
from jobwire.contrib.django import app
from orders.models import Order


@app.task("orders.confirm", queue="orders", timeout="1m")
def confirm(ctx: Context, order: int) -> str:
    """Confirms an order. Database connections are closed around it as around a request."""
    found = Order.objects.get(pk=order)
    found.confirmed = True
    found.save(update_fields=["confirmed"])
    ctx.log.info("confirmed %s", found.email)
    return found.email


# [/tasks]


@app.task("orders.count", queue="orders")
async def count() -> int:
    """A coroutine may use Django's async queries."""
    return await Order.objects.acount()


@app.task("orders.audit", queue="orders", executor="process")
def audit() -> int:
    """So may a child process, which sets Django up for itself."""
    return Order.objects.filter(confirmed=True).count()
