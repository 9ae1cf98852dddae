"""One file per family of goldens: how the authors' models, options and names meet ours."""
