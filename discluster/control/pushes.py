# SPDX-License-Identifier: Apache-2.0
"""Whether a plan that MASTER pushed may come into force here. Pure."""

from discluster.errors import DisclusterError
from discluster.messages import PlanPush
from discluster.plan import HostPlan, digest, host_plan_from_yaml


def read_push(push: PlanPush, *, host: str, current: HostPlan | None) -> HostPlan:
    """The plan in ``push`` for this ``host``, where ``current`` is in force.

    Raises:
        DocumentError: it does not validate; all its faults.
        DisclusterError: it was damaged on the way, is for somebody else, or is out of date.
    """
    if digest(push.text) != push.sha256:
        raise DisclusterError("the plan's text does not match its checksum")
    plan = host_plan_from_yaml(push.text, file=f"plan {push.generation}")
    if plan.host != host:
        raise DisclusterError(f"the plan is for {plan.host}, this host is {host}")
    if current is not None and plan.generation < current.generation:
        raise DisclusterError(
            f"the plan's generation is {plan.generation}, but {current.generation} is in force here"
        )
    return plan
