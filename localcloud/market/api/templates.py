"""EC2's actions on launch templates. Requests and answers are dictionaries in boto3's form.

A version never changes, and its number is never used again. The default version cannot be deleted. Requests that create
or modify may have a client token: a repeated request gets the first answer. Rules and texts come from captures of a
real account (docs/ec2-rules.md).
"""

import base64
import binascii
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

from localcloud.market.api import template_view
from localcloud.market.api.tags import check_tags
from localcloud.market.model.errors import EC2Error
from localcloud.market.model.listing import Attributes, filters_of, matching, page_of, tag_attributes
from localcloud.market.model.market import Market
from localcloud.market.model.requests import Actions, Answer, Params, refuse_unknown, tags_by_kind
from localcloud.market.model.surroundings import LaunchTemplate, Version, of_version

_MOST_RESULTS = 200
_MOST_USER_DATA_BYTES = 16 * 1024
_MOST_TOKEN_CHARACTERS = 128
_WHICH = {"LaunchTemplateId", "LaunchTemplateName"}
_TAGGABLE = {"instance", "volume", "network-interface", "spot-instances-request", "elastic-gpu"}

_NOT_FOUND = {"id": "InvalidLaunchTemplateId.NotFound", "name": "InvalidLaunchTemplateName.NotFoundException"}
_NO_SUCH_VERSION = {
    "Code": "launchTemplateVersionDoesNotExist",
    "Message": "The launch template version does not exist.",
}
_MOST_HOPS = 64
_MOST_DESCRIPTION_CHARACTERS = 255

_Action = Callable[[Market, Params], Answer]


def _once(action: _Action) -> _Action:
    """Answer a request that is repeated with its client token with the first answer."""

    @wraps(action)
    def carry_out(market: Market, params: Params) -> Answer:
        token = params.get("ClientToken")
        asked = {name: value for name, value in params.items() if name != "ClientToken"}
        if not token:
            return action(market, asked)
        if len(token) > _MOST_TOKEN_CHARACTERS:
            raise EC2Error("InvalidParameterValue", f"A client token has at most {_MOST_TOKEN_CHARACTERS} characters")
        answered = market.surroundings.answered
        key = (action.__name__, token)
        if key not in answered:
            answered[key] = (asked, action(market, asked))
        before, answer = answered[key]
        if before != asked or _overtaken(market, answer):
            raise EC2Error("IdempotentParameterMismatch", "Client token already used before.")
        return answer

    return carry_out


def _overtaken(market: Market, answer: Answer) -> bool:
    """Say whether a launch template was deleted, or got new versions, since the answer that created it."""
    created = answer.get("LaunchTemplate")
    if created is None:
        return False
    template = market.surroundings.templates.get(created["LaunchTemplateId"])
    return template is None or template.used_numbers > created["LatestVersionNumber"]


@_once
def create_launch_template(market: Market, params: Params) -> Answer:
    """Create a launch template with its first version, which is the default version."""
    refuse_unknown(
        "CreateLaunchTemplate",
        params,
        {"LaunchTemplateName", "VersionDescription", "LaunchTemplateData", "TagSpecifications"},
    )
    name = params["LaunchTemplateName"]
    if not re.fullmatch(r"[a-zA-Z0-9().\-/_]{3,128}", name):
        raise EC2Error(
            "InvalidLaunchTemplateName.MalformedException",
            "A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and the "
            "following characters: - ( ) . / _.",
        )
    if any(one.name == name for one in market.surroundings.templates.values()):
        raise EC2Error("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
    tags = tags_by_kind(params)
    for kind in tags.keys() - {"launch-template"}:
        raise EC2Error("InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation.")
    check_tags(tags.get("launch-template", {}))
    data = _checked(params.get("LaunchTemplateData"))
    now = market.clock()
    template = LaunchTemplate(market.new_id("lt"), name, now, tags.get("launch-template", {}))
    template.add(data, description=_description(params), at=now)
    market.surroundings.templates[template.id] = template
    market.note_call("CreateLaunchTemplate", template=name)
    return {"LaunchTemplate": _described(market, template), **_warning(market, template, template.versions[1])}


@_once
def create_launch_template_version(market: Market, params: Params) -> Answer:
    """Add a version. Missing parts come from ``SourceVersion``, if that is given."""
    refuse_unknown(
        "CreateLaunchTemplateVersion",
        params,
        {*_WHICH, "SourceVersion", "VersionDescription", "LaunchTemplateData"},
    )
    template = _named(market, params)
    source = template.version(params["SourceVersion"]).data if params.get("SourceVersion") else {}
    data = _checked(source | params.get("LaunchTemplateData", {}))
    version = template.add(data, description=_description(params), at=market.clock())
    market.note_call("CreateLaunchTemplateVersion", template=template.name, version=version.number)
    return {
        "LaunchTemplateVersion": _described_version(market, template, version),
        **_warning(market, template, version),
    }


@_once
def modify_launch_template(market: Market, params: Params) -> Answer:
    """Change the default version."""
    refuse_unknown("ModifyLaunchTemplate", params, {*_WHICH, "DefaultVersion"})
    template = _named(market, params)
    if "DefaultVersion" not in params:
        raise EC2Error("MissingParameter", "The request must contain the parameter DefaultVersion")
    template.default = template.version(params["DefaultVersion"]).number
    market.note_call("ModifyLaunchTemplate", template=template.name, version=template.default)
    return {"LaunchTemplate": _described(market, template)}


def describe_launch_templates(market: Market, params: Params) -> Answer:
    """List launch templates by id, name or filters, in pages."""
    refuse_unknown(
        "DescribeLaunchTemplates",
        params,
        {"LaunchTemplateIds", "LaunchTemplateNames", "Filters", "MaxResults", "NextToken"},
    )
    chosen = template_view.shown(market)
    if malformed := [one for one in params.get("LaunchTemplateIds") or [] if not one.startswith("lt-")]:
        text = f"The following launch template ids are malformed: {', '.join(malformed)}"
        raise EC2Error("InvalidLaunchTemplateId.Malformed", text)
    for name, attribute in (("LaunchTemplateIds", "id"), ("LaunchTemplateNames", "name")):
        if wanted := params.get(name):
            for identifier in wanted:
                if not any(getattr(template, attribute) == identifier for template in chosen):
                    raise EC2Error(
                        _NOT_FOUND[attribute],
                        "At least one of the launch templates specified in the request does not exist.",
                    )
            chosen = [template for template in chosen if getattr(template, attribute) in wanted]
    filters = filters_of(params, {"launch-template-name", "tag-key"})
    fits = matching(filters)
    chosen = [one for one in chosen if fits(_attributes(one))]
    page, token = page_of(list(enumerate(chosen, 1)), params, key=lambda pair: pair[0], most=_MOST_RESULTS)
    answer: Answer = {"LaunchTemplates": [_described(market, one) for _, one in page]}
    return {**answer, "NextToken": token} if token else answer


def describe_launch_template_versions(market: Market, params: Params) -> Answer:
    """List the versions of a template, newest first, or the latest or default versions of all templates."""
    refuse_unknown(
        "DescribeLaunchTemplateVersions",
        params,
        {*_WHICH, "Versions", "MinVersion", "MaxVersion", "MaxResults", "NextToken", "ResolveAlias"},
    )
    wanted = params.get("Versions") or []
    for name, bound in (("MinVersion", "Minimum"), ("MaxVersion", "Maximum")):
        if wanted and name in params:
            text = f"{bound} version filter is not applicable when given a list of versions."
            raise EC2Error("InvalidParameterCombination", text)
    if params.keys() & _WHICH:
        template = _named(market, params, template_view.launch_template)
        least, most = _number(params.get("MinVersion", "1")), _number(params.get("MaxVersion", str(template.latest)))
        numbers = [template.version(text).number for text in wanted] or [
            number for number in template.versions if least <= number <= most
        ]
        chosen = [(template, template.versions[number]) for number in sorted(numbers, reverse=True)]
    elif wanted and set(wanted) <= {"$Latest", "$Default"}:
        chosen = [
            (template, template.versions[number])
            for template in template_view.shown(market)
            for number in sorted({template.version(text).number for text in wanted}, reverse=True)
        ]
    else:
        raise EC2Error(
            "MissingParameter",
            "Give a launch template's id or name, or only $Latest and $Default as Versions for all templates.",
        )
    page, token = page_of(list(enumerate(chosen, 1)), params, key=lambda pair: pair[0], most=_MOST_RESULTS)
    resolve = bool(params.get("ResolveAlias"))
    answer: Answer = {
        "LaunchTemplateVersions": [_described_version(market, *pair, resolve=resolve) for _, pair in page]
    }
    return {**answer, "NextToken": token} if token else answer


def delete_launch_template_versions(market: Market, params: Params) -> Answer:
    """Delete versions. The default version, or a text that is no version, is an error; unknown numbers are listed."""
    refuse_unknown("DeleteLaunchTemplateVersions", params, {*_WHICH, "Versions"})
    if len(params["Versions"]) > _MOST_RESULTS:
        raise EC2Error("InvalidParameterValue", f"At most {_MOST_RESULTS} versions can be deleted in one call")
    template = _named(market, params)
    numbers = [_to_delete(template, text) for text in params["Versions"]]
    if template.default in numbers:
        raise EC2Error(
            "InvalidParameterValue",
            "The default version cannot be deleted. Either specify another version as default or delete the launch "
            "template.",
        )
    deleted: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    for number in numbers:
        entry = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": number}
        if template.versions.pop(number, None):
            deleted.append(entry)
        else:
            kept.append(entry | {"ResponseError": _NO_SUCH_VERSION})
    market.note_call("DeleteLaunchTemplateVersions", template=template.name, versions=[*params["Versions"]])
    return {
        "SuccessfullyDeletedLaunchTemplateVersions": deleted,
        "UnsuccessfullyDeletedLaunchTemplateVersions": kept,
    }


def _to_delete(template: LaunchTemplate, text: str) -> int:
    signs = {"$Latest": template.latest, "$Default": template.default}
    number = signs.get(text, int(text) if text.isdecimal() else 0)
    if not number:
        raise EC2Error("InvalidParameterValue", f"Invalid value for version: {text}")
    return number


def delete_launch_template(market: Market, params: Params) -> Answer:
    """Delete a launch template with all its versions. Its instances stay."""
    refuse_unknown("DeleteLaunchTemplate", params, _WHICH)
    template = _named(market, params)
    answer = {"LaunchTemplate": _described(market, template)}
    del market.surroundings.templates[template.id]
    market.note_call("DeleteLaunchTemplate", template=template.name)
    return answer


TEMPLATE_ACTIONS: Actions = {
    "CreateLaunchTemplate": create_launch_template,
    "CreateLaunchTemplateVersion": create_launch_template_version,
    "ModifyLaunchTemplate": modify_launch_template,
    "DescribeLaunchTemplates": describe_launch_templates,
    "DescribeLaunchTemplateVersions": describe_launch_template_versions,
    "DeleteLaunchTemplateVersions": delete_launch_template_versions,
    "DeleteLaunchTemplate": delete_launch_template,
}


def _named(market: Market, params: Params, find: Callable[..., LaunchTemplate] | None = None) -> LaunchTemplate:
    template_id, name = params.get("LaunchTemplateId"), params.get("LaunchTemplateName")
    if template_id and name:
        raise EC2Error(
            "InvalidParameterCombination",
            "Either provide launch template ID or launch template name to modify the template.",
        )
    if not (template_id or name):
        raise EC2Error("MissingParameter", "Give a launch template's id or its name.")
    if find:
        return find(market, template_id=template_id, name=name)
    return market.surroundings.launch_template(template_id=template_id, name=name)


def _description(params: Params) -> str:
    text = str(params.get("VersionDescription", ""))
    if len(text) > _MOST_DESCRIPTION_CHARACTERS:
        raise EC2Error(
            "InvalidParameterValue", f"A version's description has at most {_MOST_DESCRIPTION_CHARACTERS} characters"
        )
    return text


def _number(text: str) -> int:
    if not text.isdecimal():
        raise EC2Error("InvalidParameterValue", f"{text} is not the number of a version")
    return int(text)


def _checked(data: Params | None) -> Params:
    """Return a template's data, or raise EC2's error for what EC2 refuses at once. Other faults show at a launch."""
    if not data:
        raise EC2Error(
            "MissingParameter",
            "No launch template data was provided. Launch template data is required to create a launch template.",
        )
    try:
        user_data = base64.b64decode(data.get("UserData", ""), validate=True)
    except binascii.Error:
        raise EC2Error("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(user_data) > _MOST_USER_DATA_BYTES:
        raise EC2Error("InvalidParameterValue", f"User data is limited to {_MOST_USER_DATA_BYTES} bytes")
    hops = data.get("MetadataOptions", {}).get("HttpPutResponseHopLimit", 1)
    if not 1 <= hops <= _MOST_HOPS:
        raise EC2Error(
            "InvalidParameterValue",
            f"A value of \u2018{hops}\u2019 is not valid for http-put-response-hop-limit. Specify a value between 1 "
            f"and {_MOST_HOPS}, and try again.",
        )
    tags = tags_by_kind(data)
    for kind in tags.keys() - _TAGGABLE:
        raise EC2Error("InvalidParameterValue", f"'{kind}' is not a valid taggable resource type for this operation.")
    for of_kind in tags.values():
        check_tags(of_kind)
    return data


def _warning(market: Market, template: LaunchTemplate, version: Version) -> Answer:
    """Return EC2's warning for types and security groups that do not exist. EC2 keeps the version nevertheless."""
    missing = market.surroundings.missing
    launched = of_version(template, str(version.number))
    type_ = launched.instance_type
    errors = []
    if type_ and (type_ in missing or "." not in type_):
        text = f"The following supplied instance types do not exist: [{type_}]"
        errors.append({"Code": "InvalidInstanceType", "Message": text})
    errors += [
        {"Code": "InvalidSecurityGroupID.NotFound", "Message": f"The security group '{group}' does not exist"}
        for group in launched.security_groups
        if group in missing
    ]
    return {"Warning": {"Errors": errors}} if errors else {}


def _attributes(template: LaunchTemplate) -> Attributes:
    return {"launch-template-name": (template.name,), **tag_attributes(template.tags)}


def _described(market: Market, template: LaunchTemplate) -> dict[str, Any]:
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": template.created_at.replace(microsecond=0),
        "CreatedBy": _creator(market),
        "DefaultVersionNumber": template.default,
        "LatestVersionNumber": template.latest,
        "Tags": [{"Key": key, "Value": value} for key, value in template.tags.items()],
    }


def _described_version(
    market: Market, template: LaunchTemplate, version: Version, *, resolve: bool = False
) -> dict[str, Any]:
    data = dict(version.data)
    if resolve and "ImageId" in data:
        data["ImageId"] = market.surroundings.image(data["ImageId"]) or data["ImageId"]
    return {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": version.number,
        **({"VersionDescription": version.description} if version.description else {}),
        "CreateTime": version.created_at.replace(microsecond=0),
        "CreatedBy": _creator(market),
        "DefaultVersion": version.number == template.default,
        "LaunchTemplateData": data,
    }


def _creator(market: Market) -> str:
    return f"arn:aws:iam::{market.account}:root"
