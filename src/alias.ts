/**
 * The ArrayBuffers of alias mode: one per region and realm, kept while the region is cached.
 *
 * Two shapes. A lease of a whole region owns the region's record while it lasts: `take` moves the
 * record out of the list into the Handle and `give` moves it back. So a dropped Handle takes the
 * buffer with it, and the buffer's own deallocator returns the lease: no registration, and the
 * cached view is the same object when the same length is asked again. Leases of a few pages share
 * their region's record, which therefore stays in the list; each page has an anchor that moves into
 * the Handle instead, views hold it by a symbol, and the leak registry watches it.
 *
 * Invariant: a record is used only while its epoch is the region's. Native code moves the epoch on
 * when the region is purged, unmapped or passes to another thread, and counts that in the shared
 * block; `sweep` runs when the count has moved (one typed-array load for each call into holdfast,
 * and one timer that does not keep the process alive) and detaches what is stale, because every
 * long-lived wrap makes the collector lazier by its length. A record found detached was given away
 * by the program: it is dropped, and its lease serves nobody until that buffer's deallocator ran,
 * which moves the epoch on. Who gives away the buffer of a lease of pages gives its whole region.
 *
 * Cost: 0 wraps for a recycled lease, 0.4 µs for a new region. Not for memory that must be dead
 * after `free()`: a kept view sees the next tenant of its pool.
 */
import {
  BLOCK_ADDRESS,
  BLOCK_FLAGS,
  BLOCK_REGION,
  BLOCK_REGION_ADDRESS,
  BLOCK_REGION_BYTES,
  BLOCK_REGION_EPOCH,
  LEASE_RUN,
  SHARED_PURGES,
  Status,
} from "./abi.gen.ts";
import { block, callError, keep, shared, symbols, thread } from "./binding.ts";
import { anchorLost, type LostLease } from "./leaks.ts";
import { arrayBufferBytesMax, detach, wrap } from "./memory.ts";

const { hf_free, hf_region_wrap, hf_region_unwrap, hf_region_epoch } = symbols;
const deallocator = Number(symbols.hf_region_deallocator());
const pageBytes = 4096;
const contextEpochUnit = 2 ** 24;
const sweepMs = 250;

/** Views of an anchor's or a long region's memory hold its owner by this property. */
const owner: unique symbol = Symbol("holdfast.owner");

/** One ArrayBuffer over a region, or over a window of it. */
interface Window {
  byteOffset: number;
  buffer: ArrayBuffer;
}

/** The wrap of one region, and the view of it that was asked for last. */
export class RegionRecord {
  readonly region: number;
  readonly epoch: number;
  readonly address: number;
  readonly byteLength: number;
  /** Covers the region, or its first 4 GiB. */
  readonly buffer: ArrayBuffer;
  view: Uint8Array<ArrayBuffer> | null = null;
  /** Wraps beyond the first 4 GiB. */
  windows: Window[] | null = null;
  /** For regions of page runs: what each page's lease hands out, while it is free. */
  anchors: (Anchor | null)[] | null = null;
  /** Anchors that leases have now, dropped ones included. */
  anchorsLeased = 0;

  constructor(region: number, epoch: number, address: number, byteLength: number) {
    this.region = region;
    this.epoch = epoch;
    this.address = address;
    this.byteLength = byteLength;
    this.buffer = wrapRegion(this, 0, Math.min(byteLength, arrayBufferBytesMax));
  }
}

/** What a lease of pages holds instead of the whole record. */
export class Anchor {
  readonly record: RegionRecord;
  readonly page: number;
  /** The handle that is lost when this object is collected; 0 while free. */
  readonly lost: LostLease = { handle: 0 };
  view: Uint8Array<ArrayBuffer> | null = null;

  constructor(record: RegionRecord, page: number) {
    this.record = record;
    this.page = page;
    anchorLost(this, this.lost);
  }
}

interface Wraps {
  /** By region: its record, null while a lease has it or there is none. */
  records: (RegionRecord | null)[];
  /** Regions that may have a record in the list. */
  cached: Set<number>;
  /** Freed leases of pages whose buffer was given away; live for native code until it is let go. */
  given: { handle: number; region: number; epoch: number }[];
  purgesSeen: number;
  timer: ReturnType<typeof setTimeout> | null;
}

const wraps = keep<Wraps>("regions", () => ({
  records: [],
  cached: new Set(),
  given: [],
  purgesSeen: shared[SHARED_PURGES] as number,
  timer: null,
}));
const { records } = wraps;

/** The record or anchor for the alias lease that the block describes. */
export function take(handle: number): RegionRecord | Anchor {
  if (shared[SHARED_PURGES] !== wraps.purgesSeen) sweep();
  const region = block[BLOCK_REGION] as number;
  const cached = region < records.length ? (records[region] as RegionRecord | null) : null;
  if (((block[BLOCK_FLAGS] as number) & LEASE_RUN) !== 0) return takeAnchor(cached, handle);
  if (cached !== null && cached.epoch === block[BLOCK_REGION_EPOCH]) {
    records[region] = null;
    return cached;
  }
  if (cached !== null) retire(cached);
  return newRecord();
}

/** Puts back what a freed lease held. */
export function give(held: RegionRecord | Anchor): void {
  if (held instanceof RegionRecord) {
    records[held.region] = held;
    return;
  }
  held.lost.handle = 0;
  const { record, page } = held;
  record.anchorsLeased--;
  (record.anchors as (Anchor | null)[])[page] = held;
}

/** Whether the program has given the region's ArrayBuffer away. */
export function isMoved(held: RegionRecord | Anchor): boolean {
  return recordOf(held).buffer.detached;
}

/** Frees a lease of pages when the new owner of its region's buffer has let go. */
export function freeLater(held: Anchor, handle: number): void {
  const { region, epoch } = held.record;
  held.lost.handle = 0;
  wraps.given.push({ handle, region, epoch });
  if (wraps.timer === null) arm();
}

/** The bytes of a lease; the same object again when the same length was asked for last. */
export function bytesOf(
  held: RegionRecord | Anchor,
  address: number,
  byteLength: number,
): Uint8Array<ArrayBuffer> {
  const cached = held.view;
  if (cached !== null && cached.length === byteLength) return cached;
  const record = recordOf(held);
  const view = new Uint8Array(record.buffer, address - record.address, byteLength);
  if (held instanceof Anchor) own(view, held);
  held.view = view;
  return view;
}

/** The buffer that shows `byteLength` bytes at `address`, and where in it. */
export function windowOf(held: RegionRecord | Anchor, address: number, byteLength: number): Window {
  const record = recordOf(held);
  const byteOffset = address - record.address;
  if (byteOffset + byteLength <= arrayBufferBytesMax) {
    return { byteOffset, buffer: record.buffer };
  }
  record.windows ??= [];
  for (const { byteOffset: start, buffer } of record.windows) {
    if (start <= byteOffset && byteOffset + byteLength <= start + buffer.byteLength) {
      return { byteOffset: byteOffset - start, buffer };
    }
  }
  const buffer = wrapRegion(record, byteOffset, byteLength);
  record.windows.push({ byteOffset, buffer });
  return { byteOffset: 0, buffer };
}

/** Ties a view to what must live as long as it, where its buffer does not do that. */
export function tie(view: ArrayBufferView, held: RegionRecord | Anchor): void {
  if (held instanceof Anchor || held.windows !== null) own(view, held);
}

/** Detaches the wraps of regions that are no longer what they were. */
export function sweep(): void {
  wraps.purgesSeen = shared[SHARED_PURGES] as number;
  for (const region of wraps.cached) {
    const record = records[region] as RegionRecord | null;
    if (record === null) continue;
    if (hf_region_epoch(region) === record.epoch && !record.buffer.detached) continue;
    records[region] = null;
    wraps.cached.delete(region);
    retire(record);
  }
}

function freeGiven(): void {
  wraps.given = wraps.given.filter(({ handle, region, epoch }) => {
    if (hf_region_epoch(region) === epoch) return true;
    hf_free(thread, handle);
    return false;
  });
}

function recordOf(held: RegionRecord | Anchor): RegionRecord {
  return held instanceof RegionRecord ? held : held.record;
}

function takeAnchor(cached: RegionRecord | null, handle: number): Anchor {
  let record = cached;
  if (record === null || record.epoch !== block[BLOCK_REGION_EPOCH] || record.buffer.detached) {
    // Leases of the old record may be live: it goes with the last of them.
    record = newRecord();
    records[record.region] = record;
  }
  // A region may serve pages after it served a whole lease, with the same wrap.
  record.anchors ??= new Array(record.byteLength / pageBytes).fill(null);
  const page = ((block[BLOCK_ADDRESS] as number) - record.address) / pageBytes;
  const anchor = record.anchors[page] ?? new Anchor(record, page);
  record.anchors[page] = null;
  record.anchorsLeased++;
  anchor.lost.handle = handle;
  return anchor;
}

function newRecord(): RegionRecord {
  const region = block[BLOCK_REGION] as number;
  const record = new RegionRecord(
    region,
    block[BLOCK_REGION_EPOCH] as number,
    block[BLOCK_REGION_ADDRESS] as number,
    block[BLOCK_REGION_BYTES] as number,
  );
  while (records.length <= region) records.push(null);
  wraps.cached.add(region);
  if (wraps.timer === null) arm();
  return record;
}

function wrapRegion(record: RegionRecord, byteOffset: number, byteLength: number): ArrayBuffer {
  const { region, epoch, address } = record;
  const status = hf_region_wrap(thread, region);
  if (status < Status.ok) throw callError(status, "Handle.view");
  try {
    const context = epoch * contextEpochUnit + region + 1;
    return wrap(address + byteOffset, byteLength, context, deallocator);
  } catch (error) {
    hf_region_unwrap(thread, region);
    throw error;
  }
}

/** Lets go of a record that no lease has. Kept views become empty, pinned ones follow later. */
function retire(record: RegionRecord): void {
  if (record.anchorsLeased > 0) return;
  if (!record.buffer.detached) detach(record.buffer);
  for (const { buffer } of record.windows ?? []) if (!buffer.detached) detach(buffer);
}

function own(view: ArrayBufferView, held: RegionRecord | Anchor): void {
  (view as ArrayBufferView & { [owner]?: unknown })[owner] = held;
}

function arm(): void {
  wraps.timer = setTimeout(() => {
    wraps.timer = null;
    if (shared[SHARED_PURGES] !== wraps.purgesSeen) sweep();
    if (wraps.given.length > 0) freeGiven();
    if (wraps.cached.size + wraps.given.length > 0) arm();
  }, sweepMs);
  wraps.timer.unref();
}
