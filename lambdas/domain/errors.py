"""What EC2's error codes mean: the one table from code to reason. Sources: docs/error-codes.md."""

from __future__ import annotations

from lambdas.domain.results import Failure
from lambdas.domain.status import Reason

CODES: dict[Reason, tuple[str, ...]] = {
    Reason.PRICE_ABOVE_MAX: ("SpotMaxPriceTooLow",),
    Reason.NO_CAPACITY: (
        "InsufficientInstanceCapacity",
        "UnfulfillableCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "ReservationCapacityExceeded",
        "InsufficientVolumeCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InvalidFleetConfiguration",
        "Unsupported",
    ),
    Reason.QUOTA: (
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "VolumeLimitExceeded",
        "MaxFleetCountExceeded",
    ),
    Reason.THROTTLED: (
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "EC2ThrottledException",
        "Unavailable",
        "ServiceUnavailable",
        "InternalError",
        "InternalFailure",
    ),
    Reason.CONFIG: (
        "UnauthorizedOperation",
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "OptInRequired",
        "PendingVerification",
        "InvalidBlockDeviceMapping",
        "InvalidUserData.Malformed",
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "InvalidInput",
        "MissingParameter",
        "SecurityGroupsPerInterfaceLimitExceeded",
    ),
}

CONFIG_FAMILIES = (
    "InvalidAMIID",
    "InvalidSubnet",
    "InvalidLaunchTemplate",
    "InvalidGroup",
    "InvalidKeyPair",
    "AuthFailure",
)
"""Spellings after these vary between API versions."""

LASTING = ("InvalidFleetConfiguration", "Unsupported")
"""The type is not offered in the zone: trying again soon is useless."""

NO_ANSWER = ("InternalError", "InternalFailure", "Unavailable", "ServiceUnavailable", "IdempotentParameterMismatch")
"""After these nobody knows whether the call took effect: the same attempt must be sent again, or settle."""

ROLE_MISSING = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
SERVICE_ROLE_COMMAND = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
REMEDIES = {
    ROLE_MISSING: (f"This account has no service-linked role for EC2 Spot. Create it once: {SERVICE_ROLE_COMMAND}"),
    "MaxSpotInstanceCountExceeded": "Ask for a higher Spot vCPU quota in Service Quotas, or lower the pools' sizes.",
    "SecurityGroupsPerInterfaceLimitExceeded": (
        "List fewer security_group_ids, or ask for more under Service Quotas > Amazon VPC > Security groups per "
        "network interface (5 at first, at most 16)."
    ),
    "VcpuLimitExceeded": "Ask for a higher vCPU quota in Service Quotas, or lower the pools' sizes.",
}

_REASON_OF = {code: reason for reason, codes in CODES.items() for code in codes}


def reason_of(code: str) -> Reason:
    """The meaning of an EC2 error code; UNKNOWN for one that is not in the table."""
    if code.startswith(CONFIG_FAMILIES):
        return Reason.CONFIG
    return _REASON_OF.get(code, Reason.UNKNOWN)


def failure(code: str, message: str, offering: str | None = None) -> Failure:
    """An EC2 error as a failure with its meaning, and its remedy if one is known."""
    remedy = REMEDIES.get(code)
    return Failure(
        reason=reason_of(code),
        code=code,
        message=f"{message} {remedy}" if remedy else message,
        offering=offering,
        lasting=code in LASTING,
    )
