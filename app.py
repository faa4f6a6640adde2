"""The CDK app. It calls no AWS service, so that it synthesizes without an account or a network."""

import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent / ".venv"
OWN = VENV / "bin" / "python"

# `cdk` runs the python3 on the PATH. The pinned packages are in .venv, which every make target makes.
if OWN.exists() and Path(sys.prefix).resolve() != VENV.resolve():
    os.execv(OWN, [str(OWN), *sys.argv])  # noqa: S606  our own Python, no shell

# Node 20 works; the banner about its end of life would hide what this says.
os.environ.setdefault("JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION", "20")
try:
    import aws_cdk
except ModuleNotFoundError:
    sys.exit("app: the Python packages are not installed. Run `make check` once, or deploy with `make deploy`.")

from infra.bundling import BundlingError  # noqa: E402  they need the packages
from infra.choices import ContextError  # noqa: E402  they need the packages
from infra.pool_stack import PoolStack  # noqa: E402  they need the packages
from infra.stages import Deployment  # noqa: E402  they need the packages

app = aws_cdk.App()
try:
    PoolStack(app, Deployment.from_context(app.node.get_all_context()))
except (ContextError, BundlingError) as error:
    sys.exit(f"{type(error).__name__.removesuffix('Error').lower()}: {error}")
app.synth()
