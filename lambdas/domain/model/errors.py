"""The meaning of error codes: the only table from code to reason. Sources: docs/error-codes.md."""

from __future__ import annotations

import re

from lambdas.domain.item.fields import bounded
from lambdas.domain.model.results import Failure
from lambdas.domain.model.status import Reason
from lambdas.domain.wording import closed

CODES: dict[Reason, tuple[str, ...]] = {
    Reason.PRICE_ABOVE_MAX: ("SpotMaxPriceTooLow",),
    Reason.NO_CAPACITY: (
        "InsufficientInstanceCapacity",
        "UnfulfillableCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "ReservationCapacityExceeded",
        "InsufficientVolumeCapacity",
        "InsufficientAddressCapacity",
        "InvalidFleetConfiguration",
        "Unsupported",
        "VolumeTypeNotAvailableInZone",
    ),
    Reason.NO_ADDRESSES: ("InsufficientFreeAddressesInSubnet",),
    Reason.QUOTA: (
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "VolumeLimitExceeded",
        "MaxIOPSLimitExceeded",
        "NetworkInterfaceLimitExceeded",
        "MaxFleetCountExceeded",
        "MaxTemplateLimitExceeded",
        "MaxTemplateVersionLimitExceeded",
    ),
    Reason.THROTTLED: (
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "EC2ThrottledException",
        "Unavailable",
        "ServiceUnavailable",
        "InternalError",
        "InternalFailure",
        "RequestTimeout",
        "500",
        "502",
        "503",
        "504",
    ),
    Reason.CONFIG: (
        "UnauthorizedOperation",
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "OptInRequired",
        "PendingVerification",
        "Blocked",
        "OperationNotPermitted",
        "InvalidBlockDeviceMapping",
        "InvalidUserData.Malformed",
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "InvalidInput",
        "InvalidRequest",
        "InvalidInstanceType",
        "InvalidFleetConfig",
        "InvalidSnapshot.NotFound",
        "InvalidSecurityGroupID.NotFound",
        "MissingParameter",
        "SecurityGroupsPerInterfaceLimitExceeded",
        "SecurityGroupsPerInstanceLimitExceeded",
        "PrivateIpAddressLimitExceeded",
        "AttachmentLimitExceeded",
        "TagLimitExceeded",
        "FilterLimitExceeded",
        "BootForVolumeTypeUnsupported",
        "UnknownVolumeType",
        "VolumeIOPSLimit",
        "CustomerKeyHasBeenRevoked",
        "DefaultVpcDoesNotExist",
        "VPCIdNotSpecified",
        "VPCResourceNotSpecified",
    ),
}

OURS: dict[Reason, tuple[str, ...]] = {
    Reason.CONFIG: ("NoMatchingTypes", "NoOnDemandPrice", "NoSubnet", "UserDataNotKept"),
    Reason.UNKNOWN: ("NoAnswer", "AttemptUnreadable"),
}
"""Codes of this control plane, for faults that have no code of AWS."""

OF_ANOTHER_REQUEST = ("InvalidInstanceID", "InvalidNextToken", "InvalidPaginationToken")
"""These say nothing about a launch, although they begin like faults of a request."""

FAMILIES = {
    "Insufficient": Reason.NO_CAPACITY,
    "Invalid": Reason.CONFIG,
    "Missing": Reason.CONFIG,
    "Unsupported": Reason.CONFIG,
    "AuthFailure": Reason.CONFIG,
    "Throttl": Reason.THROTTLED,
}
"""The meaning of other codes by their beginning: EC2 has hundreds, and spellings vary between API versions."""

OF_A_LIMIT = "LimitExceeded"
"""The ending of codes for a used-up quota."""

LASTING = ("InvalidFleetConfiguration", "Unsupported", "VolumeTypeNotAvailableInZone")
"""The zone does not offer the type, or its volume's: trying again soon is useless."""

NO_ANSWER = (
    "InternalError",
    "InternalFailure",
    "Unavailable",
    "ServiceUnavailable",
    "RequestTimeout",
    "IdempotentParameterMismatch",
    "500",
    "502",
    "503",
    "504",
)
"""After these it is unknown whether the call took effect: the same attempt must be sent again, or settle.

botocore uses the numbers for an HTTP answer that has no error code of the service.
"""

ROLE_MISSING = "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
SERVICE_ROLE_COMMAND = "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com"
KEY_REMEDY = (
    "EC2 may not use the KMS key of the root volume. Deploy with the key's ARN in the context volume_key_arns. For "
    "spot instances also let the service-linked role of EC2 Spot use it, with aws kms create-grant (docs/deploying.md)."
)
NO_VPC = "The Region has no default VPC: list subnet_ids in the item, or give the stack some."
TOO_MANY_GROUPS = (
    "List fewer security_group_ids, or ask for more under Service Quotas > Amazon VPC > Security groups per network "
    "interface (5 at first, at most 16)."
)
REMEDIES = {
    ROLE_MISSING: (f"This account has no service-linked role for EC2 Spot. Create it once: {SERVICE_ROLE_COMMAND}"),
    "MaxSpotInstanceCountExceeded": "Ask for a higher Spot vCPU quota in Service Quotas, or lower the pools' sizes.",
    "VcpuLimitExceeded": "Ask for a higher vCPU quota in Service Quotas, or lower the pools' sizes.",
    "MaxTemplateLimitExceeded": "Delete unused launch templates, or ask for a higher quota.",
    "MaxTemplateVersionLimitExceeded": "Delete the pool's own launch template; it is created again at version 1.",
    "SecurityGroupsPerInterfaceLimitExceeded": TOO_MANY_GROUPS,
    "SecurityGroupsPerInstanceLimitExceeded": TOO_MANY_GROUPS,
    "InvalidLaunchTemplateName.AlreadyExistsException": (
        "A launch template with the name of the pool's own exists, but without the tags of stack and pool. "
        "Delete or rename it."
    ),
    "Blocked": "AWS has blocked the account. Contact AWS Support.",
    "DefaultVpcDoesNotExist": NO_VPC,
    "VPCIdNotSpecified": NO_VPC,
}

WORDS_LENGTH = 500
"""Characters of AWS's own message that are kept."""

ENCODED = re.compile(r"\s*Encoded authorization failure message: \S+")
"""Hundreds of characters at the end of a refusal by IAM, which people cannot read."""

_REASON_OF = {code: reason for table in (CODES, OURS) for reason, codes in table.items() for code in codes}


def reason_of(code: str) -> Reason:
    """The meaning of an error code; UNKNOWN if neither the table nor a family has it."""
    if code in _REASON_OF:
        return _REASON_OF[code]
    if code.startswith(OF_ANOTHER_REQUEST):
        return Reason.UNKNOWN
    if code.endswith(OF_A_LIMIT):
        return Reason.QUOTA
    return next((reason for family, reason in FAMILIES.items() if code.startswith(family)), Reason.UNKNOWN)


def failure(code: str, message: str, offering: str | None = None) -> Failure:
    """An error as a failure with its meaning, and its remedy if one is known. A long message is cut."""
    words, remedy = bounded(ENCODED.sub("", message), WORDS_LENGTH), REMEDIES.get(code)
    return Failure(
        reason=reason_of(code),
        code=code,
        message=f"{closed(words)} {remedy}" if remedy else words,
        offering=offering,
        lasting=code in LASTING,
    )
