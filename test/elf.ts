/**
 * Reads what the loader reads of a 64-bit little-endian ELF library: its dynamic section and its
 * dynamic symbols. Enough to say what a library needs and exports, without binutils.
 */

export interface Elf {
  needed: string[];
  soname: string | undefined;
  /** DF_1_NODELETE: the library stays mapped after dlclose. */
  noDelete: boolean;
  /** Defined global symbols: functions and data. */
  functions: string[];
  objects: string[];
  imports: { name: string; weak: boolean }[];
  /** Whether there is a symbol table or debug section that `strip` would remove. */
  stripped: boolean;
}

const DYNAMIC_SECTION = 6;
const DYNAMIC_SYMBOLS = 11;
const SYMBOL_TABLE = 2;
const NEEDED = 1n;
const SONAME = 14n;
const FLAGS_1 = 0x6ffffffbn;
const NODELETE = 8n;

/** Throws if the bytes are not a 64-bit little-endian ELF file. */
export function readElf(bytes: Uint8Array): Elf {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (data.getUint32(0, false) !== 0x7f454c46 || bytes[4] !== 2 || bytes[5] !== 1) {
    throw new Error("not a 64-bit little-endian ELF file");
  }
  const sections = readSections(data);
  const strings = (table: number, at: number) => {
    const start = sections[table]!.offset + at;
    return new TextDecoder().decode(bytes.subarray(start, bytes.indexOf(0, start)));
  };
  const elf: Elf = {
    needed: [],
    soname: undefined,
    noDelete: false,
    functions: [],
    objects: [],
    imports: [],
    stripped: !sections.some((section) => section.type === SYMBOL_TABLE),
  };
  for (const section of sections) {
    if (section.type === DYNAMIC_SECTION) {
      for (let at = section.offset; at < section.offset + section.size; at += 16) {
        const tag = data.getBigInt64(at, true);
        const value = data.getBigUint64(at + 8, true);
        if (tag === 0n) break;
        if (tag === NEEDED) elf.needed.push(strings(section.link, Number(value)));
        if (tag === SONAME) elf.soname = strings(section.link, Number(value));
        if (tag === FLAGS_1) elf.noDelete = (value & NODELETE) !== 0n;
      }
    }
    if (section.type === DYNAMIC_SYMBOLS) {
      for (let at = section.offset + 24; at < section.offset + section.size; at += 24) {
        const name = strings(section.link, data.getUint32(at, true));
        const info = data.getUint8(at + 4);
        if (data.getUint16(at + 6, true) === 0) elf.imports.push({ name, weak: info >> 4 === 2 });
        else if ((info & 15) === 2) elf.functions.push(name);
        else elf.objects.push(name);
      }
    }
  }
  return elf;
}

function readSections(data: DataView) {
  const start = Number(data.getBigUint64(0x28, true));
  const entryBytes = data.getUint16(0x3a, true);
  const count = data.getUint16(0x3c, true);
  return Array.from({ length: count }, (_, i) => {
    const at = start + i * entryBytes;
    return {
      type: data.getUint32(at + 4, true),
      offset: Number(data.getBigUint64(at + 24, true)),
      size: Number(data.getBigUint64(at + 32, true)),
      link: data.getUint32(at + 40, true),
    };
  });
}
