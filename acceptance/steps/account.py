"""Before anything is made: the account's quotas, its service-linked role, prices and types."""

from __future__ import annotations

from acceptance.run import NothingWorksError, Run
from cli import doctor, drill
from lambdas.domain.item.fields import format_price


def ready(run: Run) -> str:
    """Check the spot quota and the service-linked role. Raises NothingWorksError if no instance could start."""
    families = doctor.spot_quotas(run.place.deployment)
    types = run.state.types
    counting = {name: vcpus for name, vcpus in families.items() if any(doctor.counts_for(name, one) for one in types)}
    text = "; ".join(f"All {name} Spot Instance Requests: {vcpus:g} vCPUs" for name, vcpus in counting.items())
    run.judge(
        "quota-names", text or f"no quota among {', '.join(families)} counts for {', '.join(types)}", holds=bool(text)
    )
    _drill_quota(run)
    needed = 2 * run.state.most_instances
    if counting and max(counting.values()) < needed:
        raise NothingWorksError(
            f"the account's spot quota is {max(counting.values()):g} vCPUs, and {run.state.most_instances} instances "
            f"need up to {needed}: raise it in Service Quotas, or lower --most-instances"
        )
    state, found, *remedy = doctor.service_role(run.place.deployment)
    run.judge("spot-role", found, holds=state is doctor.State.OK)
    if state is doctor.State.FAIL:
        raise NothingWorksError(f"{found}. {' '.join(remedy)}")
    return f"{text}; {found}"


def _drill_quota(run: Run) -> None:
    """The quota of parallel actions of an experiment. Missing, it says nothing: Service Quotas lists not all."""
    pages = run.client("service-quotas").get_paginator("list_service_quotas").paginate(ServiceCode="fis")
    found = {one["QuotaName"]: float(one["Value"]) for page in pages for one in page["Quotas"]}
    parallel = {name: value for name, value in found.items() if "parallel actions" in name.lower()}
    if not parallel:
        run.not_seen("drill-quota", f"no quota of parallel actions among {', '.join(sorted(found)) or 'none'}")
        return
    text = "; ".join(f"{name}: {value:g}" for name, value in parallel.items())
    run.judge("drill-quota", text, holds=min(parallel.values()) == drill.AT_ONCE)


def prices(run: Run) -> str:
    """Read on-demand prices and the types by requirements."""
    offerings = run.place.deployment.offerings()
    listed = offerings.list_prices(run.state.types)
    some = ", ".join(f"{name} {format_price(price)}" for name, price in sorted(listed.items()))
    run.judge("price-list", f"on demand, USD an hour: {some or 'none'}", holds=bool(listed))
    spot = offerings.spot_prices(run.state.types).values()
    if spot:
        some += f"; spot {format_price(min(spot))} to {format_price(max(spot))}"
    if run.local:
        return some
    asked = {"VCpuCount": {"Min": 2, "Max": 2}, "MemoryMiB": {"Min": 1, "Max": 2048}}
    pages = run.client("ec2").get_paginator("get_instance_types_from_instance_requirements")
    found = sorted(
        one["InstanceType"]
        for page in pages.paginate(
            ArchitectureTypes=["x86_64"],
            VirtualizationTypes=["hvm"],
            InstanceRequirements={**asked, "InstanceGenerations": ["current"], "BurstablePerformance": "included"},
        )
        for one in page["InstanceTypes"]
    )
    run.judge("requirements", f"{len(found)} types: {', '.join(found[:12])}", holds=bool(found))
    return f"{some}; {len(found)} types have two vCPUs and at most 2 GiB"
