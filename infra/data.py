"""The two DynamoDB tables: what users want, and what the control plane answers and remembers."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from infra.stages import Stage

KEY = dynamodb.Attribute(name="pool_name", type=dynamodb.AttributeType.STRING)


class Data(Construct):
    """Two tables instead of one.

    A console save cannot overwrite the controller's memory, IAM can grant rights on each table alone, and the
    controller's writes never trigger the stream.
    """

    def __init__(self, scope: Construct, construct_id: str, *, stage: Stage) -> None:
        super().__init__(scope, construct_id)
        # The stream's reader needs only the pool's name; the item may hold secrets of its machines.
        self.pools = self._table("Pools", stage, stream=dynamodb.StreamViewType.KEYS_ONLY)
        self.status = self._table("PoolStatus", stage)

    def _table(
        self, construct_id: str, stage: Stage, stream: dynamodb.StreamViewType | None = None
    ) -> dynamodb.TableV2:
        return dynamodb.TableV2(
            self,
            construct_id,
            partition_key=KEY,
            billing=dynamodb.Billing.on_demand(),
            dynamo_stream=stream,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=stage.keep_data,
            removal_policy=RemovalPolicy.RETAIN if stage.keep_data else RemovalPolicy.DESTROY,
        )
