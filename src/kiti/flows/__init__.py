"""Stories that cross slices. Flows open transactions; slices only ever see one."""
