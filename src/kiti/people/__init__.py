"""Staff: who they are, what their roles let them do, the sessions of their browsers."""
