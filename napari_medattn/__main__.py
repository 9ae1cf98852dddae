"""``python -m napari_medattn`` is ``medattn``."""

from napari_medattn.cli import main

if __name__ == "__main__":
    main()
