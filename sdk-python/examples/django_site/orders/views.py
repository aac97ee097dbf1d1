"""Places and shows orders."""

# [views]
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from jobwire.contrib.django import enqueue_on_commit
from orders.models import Order
from orders.tasks import confirm


@csrf_exempt
@transaction.atomic
def place(request: HttpRequest) -> JsonResponse:
    """The job is enqueued when the order is in the database, and not when it is not."""
    order = Order.objects.create(email=request.POST["email"])
    enqueue_on_commit(confirm.s(order.pk))
    return JsonResponse({"order": order.pk})


# [/views]


def show(request: HttpRequest, pk: int) -> JsonResponse:
    """Whether the job has run."""
    order = Order.objects.get(pk=pk)
    return JsonResponse({"order": order.pk, "confirmed": order.confirmed})
