"""Parts of TAB fusion: settings, branches, context windows, and the names of published weights."""
