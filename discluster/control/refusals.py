# SPDX-License-Identifier: Apache-2.0
"""The one place where D-Bus error names become words. Pure."""

from discluster.errors import SupervisorError


def refusal(name: str, said: str | None, about: str) -> SupervisorError:
    """What systemd, or polkit, says no to. ``about``: the call, in words."""
    told = said or name
    if name.endswith((".AccessDenied", ".InteractiveAuthorizationRequired", ".AuthFailed")):
        return SupervisorError(
            f"systemd: {about}: not allowed: {told}",
            hint="polkit must let this user manage discluster-cluster@*.service: is polkitd"
            " installed and /usr/share/polkit-1/rules.d/50-discluster.rules in place?",
            code="not-allowed",
        )
    if name.endswith((".NoSuchUnit", ".NoUnitForPID")):
        return SupervisorError(
            f"systemd: {about}: {told}",
            hint="is discluster-cluster@.service installed? 'systemctl cat discluster-cluster@0'",
            code="no-such-unit",
        )
    return SupervisorError(f"systemd: {about}: {told} ({name})")
