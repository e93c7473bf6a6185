-- record :execute
INSERT INTO audit_event (subject_id, id, at, actor, action, detail)
SELECT
    event.subject_id,
    event.id,
    kiti_now() AS at,
    event.actor,
    event.action,
    event.detail
FROM unnest(
    %(subjects)s::uuid[], %(ids)s::uuid[], %(actors)s::text[], %(actions)s::text[], %(details)s::jsonb[]
) AS event (subject_id, id, actor, action, detail);

-- of_subject :many
SELECT
    id,
    at,
    actor,
    action,
    detail
FROM audit_event
WHERE subject_id = %(subject)s
ORDER BY id
LIMIT 500;
