"""Railway: replace the repository. docs/platforms.md explains each value."""

from railway_sdk import Project, RailwayContext, define_railway, github, project, service


@define_railway
def main(ctx: RailwayContext) -> Project:
    """Returns the project that Railway makes."""
    taskwell = service(
        "taskwell",
        source=github("your-name/taskwell"),
        preDeploy="taskwell migrate",
        # Railway asks only before it switches to a new deployment, so this keeps no database awake.
        healthcheck="/health/ready",
        env={
            # Variables that the environment shares, so that their values are not in this file.
            "DATABASE_URL": ctx.shared.DATABASE_URL,
            "MIGRATION_DATABASE_URL": ctx.shared.MIGRATION_DATABASE_URL,
            "BETTER_AUTH_URL": ctx.shared.BETTER_AUTH_URL,
            "TASKWELL_METRICS_PORT": "9091",
            # Requests in flight get 10 seconds. By default, Railway sends SIGKILL at once.
            "RAILWAY_DEPLOYMENT_DRAINING_SECONDS": "20",
        },
    )
    return project("taskwell", resources=[taskwell])
