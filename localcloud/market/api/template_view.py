"""Launch templates as launches, listings and IAM see them: new ones only after a delay."""

from dataclasses import replace

from localcloud.market.model.market import Market
from localcloud.market.model.surroundings import LaunchTemplate, TemplateVersion, found_template, of_version


def shown(market: Market) -> list[LaunchTemplate]:
    """Return the launch templates that are visible now, with their visible versions, and tags."""
    templates = list(market.surroundings.templates.values())
    if not market.settings.template_lag_seconds:
        return templates
    before = market.clock() - market.lasting(market.settings.template_lag_seconds)
    return [
        replace(template, versions={n: each for n, each in template.versions.items() if each.created_at <= before})
        for template in templates
        if template.created_at <= before
    ]


def launch_template(market: Market, *, template_id: str | None, name: str | None) -> LaunchTemplate:
    """Return a visible launch template by id or name, or raise EC2's error."""
    return found_template(shown(market), template_id=template_id, name=name)


def template(market: Market, *, template_id: str | None, name: str | None, version: str) -> TemplateVersion:
    """Return a visible version (a number, ``$Latest`` or ``$Default``) or raise EC2's error."""
    return of_version(launch_template(market, template_id=template_id, name=name), version)
