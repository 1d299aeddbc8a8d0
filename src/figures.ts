/**
 * Structures that native code reads or fills, as objects of plain numbers and back.
 *
 * Offsets come from the generated layouts, so a field stands once, in zig/engine/types.zig.
 */
interface Layout {
  readonly size: number;
  readonly fields: Readonly<Record<string, { readonly offset: number; readonly kind: string }>>;
}

/** The fields of a structure, all numbers. */
export type Figures<L extends Layout> = { -readonly [Name in keyof L["fields"]]: number };

/** Reads the structure at `byteOffset` of what native code has filled. */
export function readFigures<L extends Layout>(
  layout: L,
  buffer: Uint8Array,
  byteOffset = 0,
): Figures<L> {
  const view = new DataView(buffer.buffer, buffer.byteOffset + byteOffset, layout.size);
  const figures: Record<string, number> = {};
  for (const name in layout.fields) {
    const { offset, kind } = layout.fields[name] as { offset: number; kind: string };
    figures[name] = kind === "f64" ? view.getFloat64(offset, true) : view.getUint32(offset, true);
  }
  return figures as Figures<L>;
}

/** Writes a structure for native code; fields that are not given are 0. */
export function writeFigures<L extends Layout>(
  layout: L,
  figures: Partial<Figures<L>>,
): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(layout.size);
  const view = new DataView(buffer.buffer);
  for (const name in layout.fields) {
    const { offset, kind } = layout.fields[name] as { offset: number; kind: string };
    const value = (figures as Record<string, number | undefined>)[name] ?? 0;
    if (kind === "f64") view.setFloat64(offset, value, true);
    else view.setUint32(offset, value, true);
  }
  return buffer;
}
