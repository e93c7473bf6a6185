-- How each task of the queue stands. Succeeded jobs are deleted; when a periodic task last came round is kept.
-- queue_health :many
SELECT
    task.name AS task,
    coalesce(job.waiting, 0)::integer AS waiting,
    coalesce(job.failed, 0)::integer AS failed,
    coalesce(job.lag_seconds, 0)::integer AS lag_seconds,
    round.last_run_at
FROM unnest(%(tasks)s::text[]) AS task (name)
LEFT JOIN (
    SELECT
        task_name,
        count(*) FILTER (WHERE status IN ('todo', 'doing')) AS waiting,
        count(*) FILTER (WHERE status = 'failed') AS failed,
        max(extract(EPOCH FROM now() - scheduled_at)) FILTER (WHERE status = 'todo') AS lag_seconds
    FROM procrastinate_jobs
    GROUP BY task_name
) AS job ON task.name = job.task_name
LEFT JOIN (
    SELECT
        task_name,
        to_timestamp(max(defer_timestamp)) AS last_run_at
    FROM procrastinate_periodic_defers
    GROUP BY task_name
) AS round ON task.name = round.task_name
ORDER BY task.name;

-- parked_jobs :many
SELECT
    id,
    task_name AS task,
    attempts
FROM procrastinate_jobs
WHERE status = 'failed'
ORDER BY id
LIMIT 100;

-- revision :maybe
SELECT version_num AS revision FROM alembic_version;

-- wait_for_locks :execute
SELECT set_config('lock_timeout', %(limit)s::text, true);
