"""What is in one of the workflow's HDF5 files, as text for people."""

from dataclasses import dataclass

from sotrplib import store, tables


@dataclass(frozen=True)
class View:
    """How much of a table is shown: ``n_rows`` (0 for all), only ``columns`` (empty for all), wrapped at ``width``."""

    n_rows: int = 20
    columns: tuple = ()
    width: int | None = None


def describe_file(path, view):
    """What a file says of itself, its tables and arrays; a file of one table shows that table too."""
    shapes = store.list_contents(path)
    names = [name for name in ["/", *shapes] if "columns" in store.read_attrs(path, name)]
    attrs = [
        (name, str(value)) for name, value in store.read_attrs(path).items() if name not in ("provenance", "columns")
    ]
    frames = [(name, _summary(path, name)) for name in names]
    inside = tuple(f"{name}/" for name in names)
    arrays = [
        (n, _array(path, n, shape)) for n, shape in shapes.items() if shape is not None and not n.startswith(inside)
    ]
    parts = [_block(*part) for part in (("attributes", attrs), ("tables", frames), ("arrays", arrays)) if part[1]]
    if len(names) == 1:
        parts.append(describe_table(path, names[0], view))
    return "\n\n".join(parts)


def describe_table(path, name, view):
    """A table with the unit of each column in its header and the names of quality flags in place of their bits.

    Raises
    ------
    StoreError
        If the file has no such table or the table no such column.
    """
    units = store.read_units(path, name)
    unknown = [column for column in view.columns if column not in units]
    if unknown:
        raise store.StoreError(f"{path}: {name} has no column {', '.join(unknown)}; it has {', '.join(units)}")
    frame = store.read_table(path, name, columns=view.columns or None)
    frame = frame[list(view.columns)] if view.columns else frame
    shown = frame.head(view.n_rows) if view.n_rows else frame
    if "flags" in shown:
        shown = shown.assign(flags=[" ".join(tables.flag_names(bits)) or "-" for bits in shown["flags"]])
    shown = shown.rename(columns={column: f"{column} [{unit}]" for column, unit in units.items() if unit != "1"})
    return f"{shown.to_string(index=False, na_rep='-', line_width=view.width)}\n{len(shown)} of {len(frame)} rows"


def _block(title, pairs):
    width = max(len(name) for name, _ in pairs)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in pairs)])


def _summary(path, name):
    units = store.read_units(path, name)
    rows = store.list_contents(path)[f"{name}/{next(iter(units))}".lstrip("/")][0]
    return f"{rows} rows of {', '.join(units)}"


def _array(path, name, shape):
    attrs = store.read_attrs(path, name)
    unit = attrs.get("unit", "1")
    size = " x ".join(map(str, shape)) or "one value"
    return ", ".join(filter(None, [size, "" if unit == "1" else str(unit), str(attrs.get("description", ""))]))
