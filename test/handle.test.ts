/** What a handle promises while it lives, and what it answers to wrong use. */
import { describe, expect, test } from "bun:test";
import { alloc, allocUnsafe, Handle, HoldfastError, LargePool } from "holdfast";
import { codeOf } from "./fixtures/waiting.ts";

const MiB = 2 ** 20;
const sizes = [1, 15, 4096, 4097, 65536, MiB - 1, MiB, 2 * MiB, 3 * MiB + 5];

describe("an allocation", () => {
  for (const size of sizes) {
    test(`of ${size} bytes has exactly that length, and capacity as its owner has`, () => {
      using own = LargePool.shared.alloc(size);
      expect(own.byteLength).toBe(size);
      expect(own.capacity).toBe(Math.ceil(size / 4096) * 4096);
      using handle = alloc(size);
      expect(handle.byteLength).toBe(size);
      if (size > 2048) expect(handle.capacity).toBe(own.capacity);
      // An object of a slab: at most 16 bytes or an eighth more.
      expect(handle.capacity).toBeGreaterThanOrEqual(size);
      if (size <= 2048)
        expect(handle.capacity).toBeLessThanOrEqual(Math.max(size + 16, size * 1.125));
      expect(handle.bytes.length).toBe(size);
      expect(handle.bytes.buffer.byteLength).toBe(size);
      expect(handle.address % 16).toBe(0);
    });

    test(`of ${size} bytes is zero-filled, also when the memory was used before`, () => {
      for (let round = 0; round < 3; round++) {
        using handle = alloc(size);
        expect(Buffer.compare(handle.bytes, new Uint8Array(size))).toBe(0);
        handle.bytes.fill(0xaa);
      }
    });
  }

  test("of no bytes is a live handle without memory", () => {
    const handle = alloc(0);
    expect(handle.byteLength).toBe(0);
    expect(handle.address).toBe(0);
    expect(handle.bytes.length).toBe(0);
    expect(handle.bytes).toBe(handle.bytes);
    expect(handle.freed).toBe(false);
    expect(handle.view(Float64Array).length).toBe(0);
    expect(handle.free()).toBe("freed");
    expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
  });

  test("is aligned as asked", () => {
    for (let log2 = 0; log2 <= 30; log2++) {
      using handle = allocUnsafe(100, { align: 2 ** log2 });
      expect(handle.address % 2 ** log2).toBe(0);
    }
  });

  test("with prefault is resident at once", () => {
    const pool = new LargePool({ background: null });
    const handle = pool.allocUnsafe(4 * MiB, { prefault: true, pages: "base" });
    expect(pool.stats().residentBytes).toBeGreaterThanOrEqual(4 * MiB);
    handle.free();
    pool.close();
  });

  test("refuses wrong arguments by Node's codes, and names them", () => {
    const type = "ERR_INVALID_ARG_TYPE";
    const range = "ERR_OUT_OF_RANGE";
    expect(codeOf(() => alloc("1" as never))).toBe(type);
    expect(codeOf(() => alloc(undefined as never))).toBe(type);
    expect(codeOf(() => alloc(1n as never))).toBe(type);
    for (const wrong of [-1, 1.5, Number.NaN, Infinity, -Infinity, 2 ** 53]) {
      expect(codeOf(() => alloc(wrong))).toBe(range);
    }
    expect(codeOf(() => alloc(1, 5 as never))).toBe(type);
    expect(codeOf(() => alloc(1, null as never))).toBe(type);
    for (const align of [0, -1, 3, 2 ** 31, 1.5, 2 ** 32, Number.NaN]) {
      expect(codeOf(() => alloc(1, { align }))).toBe(range);
    }
    expect(codeOf(() => alloc(1, { align: "16" as never }))).toBe(type);
    expect(codeOf(() => alloc(1, { pages: "huge" as never }))).toBe(range);
    expect(codeOf(() => alloc(1, { pages: 1 as never }))).toBe(type);
    expect(codeOf(() => alloc(1, { lock: "yes" as never }))).toBe(range);
    expect(codeOf(() => alloc(1, { views: "both" as never }))).toBe(range);
    expect(codeOf(() => alloc(1, { prefault: 1 as never }))).toBe(type);
    expect(() => alloc(-1)).toThrow(/byteLength/);
    expect(() => alloc(1, { align: 3 })).toThrow(/align.*Received 3/);
  });

  test("too large for any class answers SIZE_CLASS", () => {
    expect(codeOf(() => allocUnsafe(2 ** 36 + 1))).toBe("ERR_HOLDFAST_SIZE_CLASS");
    expect(codeOf(() => allocUnsafe(2 ** 52))).toBe("ERR_HOLDFAST_SIZE_CLASS");
  });

  test("throws with a stack that begins at the caller", () => {
    try {
      alloc(-1);
    } catch (error) {
      const lines = (error as Error).stack?.split("\n") ?? [];
      expect(lines.find((line) => line.trim().startsWith("at "))).toContain("handle.test.ts");
    }
    expect.assertions(1);
  });
});

describe("views", () => {
  test("bytes is the same object each time", () => {
    using handle = alloc(100);
    expect(handle.bytes).toBe(handle.bytes);
    expect(handle.view(Uint8Array).buffer).toBe(handle.bytes.buffer);
  });

  test("of every element type show the same memory", () => {
    using handle = alloc(64);
    const types = [
      Int8Array,
      Uint8Array,
      Uint8ClampedArray,
      Int16Array,
      Uint16Array,
      Int32Array,
      Uint32Array,
      Float32Array,
      Float64Array,
      BigInt64Array,
      BigUint64Array,
    ] as const;
    for (const type of types) {
      const view = handle.view(type as typeof Uint8Array);
      expect(view.length).toBe(64 / type.BYTES_PER_ELEMENT);
      expect(view.constructor as unknown).toBe(type);
    }
    const view = handle.view(DataView, 8, 16);
    view.setUint32(0, 0x01020304);
    expect([...handle.bytes.subarray(8, 12)]).toEqual([1, 2, 3, 4]);
    expect(view.byteLength).toBe(16);
    const buffer = handle.view(Buffer, 8, 4);
    expect(Buffer.isBuffer(buffer)).toBe(true);
    expect(buffer.toString("hex")).toBe("01020304");
  });

  test("are checked for bounds and alignment", () => {
    using handle = alloc(64);
    expect(codeOf(() => handle.view(Float64Array, 4))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.view(Float64Array, 8, 8))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.view(Uint8Array, 65))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.view(Uint8Array, -1))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.view(Uint8Array, 0.5))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.view(Uint8Array, "1" as never))).toBe("ERR_INVALID_ARG_TYPE");
    expect(codeOf(() => handle.view(Uint8Array, 0, Number.NaN))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.view(Map as never))).toBe("ERR_INVALID_ARG_TYPE");
    expect(codeOf(() => handle.view(undefined as never))).toBe("ERR_INVALID_ARG_TYPE");
    expect(handle.view(Uint8Array, 64).length).toBe(0);
    expect(handle.view(Uint32Array, 4).length).toBe(15);
  });

  test("of more than 4 GiB come in windows", () => {
    const GiB = 2 ** 30;
    const handle = allocUnsafe(6 * GiB);
    expect(codeOf(() => handle.bytes)).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.view(Uint8Array))).toBe("ERR_OUT_OF_RANGE");
    const last = handle.view(Float64Array, 6 * GiB - 8, 1);
    const across = handle.view(Uint8Array, 6 * GiB - 16, 16);
    last[0] = Math.PI;
    expect(new DataView(across.buffer, across.byteOffset, 16).getFloat64(8, true)).toBe(Math.PI);
    const whole = handle.view(Uint8Array, 0, 4 * GiB);
    whole[0] = 1;
    expect(handle.view(Uint8Array, 0, 1)[0]).toBe(1);
    expect(handle.view(Uint8Array, GiB - 1, 4 * GiB).length).toBe(4 * GiB);
    expect(handle.free()).toBe("freed");
    expect([last.length, across.length, whole.length]).toEqual([0, 0, 0]);
  });
});

describe("after free()", () => {
  test("every view is empty and every use throws FREED", () => {
    const handle = alloc(4096);
    const views = [handle.bytes, handle.view(Float64Array), handle.view(Int16Array, 2, 3)];
    const data = handle.view(DataView);
    expect(handle.free()).toBe("freed");
    expect(handle.freed).toBe(true);
    for (const view of views) expect(view.length).toBe(0);
    expect(() => data.getInt8(0)).toThrow();
    const uses: (() => unknown)[] = [
      () => handle.bytes,
      () => handle.address,
      () => handle.capacity,
      () => handle.locked,
      () => handle.pageKind,
      () => handle.view(Uint8Array),
      () => handle.resize(1),
      () => handle.lock(),
      () => handle.unlock(),
      () => handle.prefetch(),
      () => handle.purge("now"),
      () => handle.transfer(),
    ];
    for (const use of uses) expect(codeOf(use)).toBe("ERR_HOLDFAST_FREED");
    expect(handle.byteLength).toBe(4096);
  });

  test("a second free throws DOUBLE_FREE and the end of a using block does nothing", () => {
    const handle = alloc(10);
    {
      using again = handle;
      expect(again.free()).toBe("freed");
    }
    expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
    expect(() => handle[Symbol.dispose]()).not.toThrow();
  });

  test("an old handle cannot end the lease that has its memory now", () => {
    const first = allocUnsafe(4096);
    const { address } = first;
    first.free();
    using second = allocUnsafe(4096);
    expect(second.address).toBe(address);
    expect(codeOf(() => first.free())).toBe("ERR_HOLDFAST_DOUBLE_FREE");
    expect(second.freed).toBe(false);
  });
});

describe("resize()", () => {
  test("keeps the bytes in both directions and empties old views", () => {
    let random = 1;
    for (const from of sizes) {
      for (const to of sizes) {
        const handle = alloc(from);
        const before = handle.bytes;
        for (let at = 0; at < from; at += 997) before[at] = (random = (random * 48271) % 251) + 1;
        const copy = before.slice(0, Math.min(from, to));
        handle.resize(to);
        expect(handle.byteLength).toBe(to);
        expect(handle.bytes.length).toBe(to);
        if (from !== to) expect(before.length).toBe(0);
        expect(Buffer.compare(handle.bytes.subarray(0, copy.length), copy)).toBe(0);
        // alloc promised zeros; what is new is zero too.
        expect(
          Buffer.compare(handle.bytes.subarray(copy.length), new Uint8Array(to - copy.length)),
        ).toBe(0);
        handle.free();
      }
    }
  });

  test("within capacity stays in place", () => {
    for (const length of [1000, 3000]) {
      using handle = alloc(length);
      const { address, capacity } = handle;
      handle.bytes.fill(7);
      handle.resize(capacity);
      expect(handle.address).toBe(address);
      handle.resize(10);
      expect(handle.address).toBe(address);
      expect(handle.bytes.every((byte) => byte === 7)).toBe(true);
    }
  });

  test("to and from no bytes", () => {
    using handle = alloc(0);
    handle.resize(5000);
    handle.bytes.fill(1);
    handle.resize(0);
    expect(handle.bytes.length).toBe(0);
    handle.resize(3);
    expect([...handle.bytes]).toEqual([0, 0, 0]);
  });

  test("that fails leaves the handle as it was", () => {
    const pool = new LargePool({ limitBytes: 8 * MiB });
    const handle = pool.alloc(4 * MiB);
    handle.bytes[5] = 55;
    expect(codeOf(() => handle.resize(64 * MiB))).toBe("ERR_HOLDFAST_LIMIT");
    expect(handle.byteLength).toBe(4 * MiB);
    expect(handle.bytes[5]).toBe(55);
    expect(codeOf(() => handle.resize(-1))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.resize("1" as never))).toBe("ERR_INVALID_ARG_TYPE");
    handle.free();
    pool.close();
  });
});

describe("transfer() and adopt()", () => {
  test("move the memory to one new handle and end the old one", () => {
    const handle = alloc(5000);
    const bytes = handle.bytes;
    bytes[4999] = 9;
    const token = handle.transfer();
    expect(bytes.length).toBe(0);
    expect(handle.freed).toBe(true);
    expect(codeOf(() => handle.bytes)).toBe("ERR_HOLDFAST_FREED");
    expect(codeOf(() => handle.free())).toBe("ERR_HOLDFAST_FREED");
    using adopted = Handle.adopt(structuredClone(token));
    expect(adopted.byteLength).toBe(5000);
    expect(adopted.bytes[4999]).toBe(9);
    expect(codeOf(() => Handle.adopt(token))).toBe("ERR_HOLDFAST_FREED");
  });

  test("of an empty handle and of one never viewed", () => {
    using empty = Handle.adopt(alloc(0).transfer());
    expect(empty.bytes.length).toBe(0);
    using unseen = Handle.adopt(alloc(3 * MiB).transfer());
    expect(unseen.bytes[3 * MiB - 1]).toBe(0);
  });

  test("refuse what is no token", () => {
    expect(codeOf(() => Handle.adopt(null as never))).toBe("ERR_INVALID_ARG_TYPE");
    expect(codeOf(() => Handle.adopt({} as never))).toBe("ERR_INVALID_ARG_TYPE");
    expect(codeOf(() => Handle.adopt({ token: 1.5, byteLength: 1 }))).toBe("ERR_HOLDFAST_FOREIGN");
  });

  test("of an alias handle is UNSUPPORTED", () => {
    using handle = allocUnsafe(2 * MiB, { views: "alias" });
    expect(codeOf(() => handle.transfer())).toBe("ERR_HOLDFAST_UNSUPPORTED");
    expect(handle.freed).toBe(false);
  });
});

describe("the kernel", () => {
  test("tells the kind of pages; untouched memory is base", () => {
    using handle = allocUnsafe(8 * MiB, { pages: "base" });
    expect(handle.pageKind).toBe("base");
    handle.bytes.fill(1);
    expect(handle.pageKind).toBe("base");
  });

  test("purge now empties, prefetch and ranges are checked", () => {
    using handle = allocUnsafe(4 * MiB);
    handle.bytes.fill(3);
    handle.purge("now");
    expect(handle.bytes.every((byte) => byte === 0)).toBe(true);
    handle.bytes.fill(3);
    handle.purge("lazy");
    handle.prefetch();
    handle.prefetch(4096, 100);
    expect(codeOf(() => handle.prefetch(0, 5 * MiB))).toBe("ERR_OUT_OF_RANGE");
    expect(codeOf(() => handle.purge("later" as never))).toBe("ERR_OUT_OF_RANGE");
  });

  test("locks pages, or says why not", () => {
    using handle = allocUnsafe(8192, { lock: "try" });
    const locked: boolean = handle.locked;
    // A refused lock is visible, and what needs it fails loudly.
    if (!locked) {
      expect(codeOf(() => handle.lock())).toBe("ERR_HOLDFAST_LOCK_LIMIT");
      return;
    }
    handle.unlock();
    expect(handle.locked).toBe(false);
    handle.lock();
    expect(handle.locked).toBe(true);
    expect(codeOf(() => handle.purge("now"))).toBe("ERR_HOLDFAST_BUSY");
  });
});

test("an error is a HoldfastError with code and operation", () => {
  const handle = alloc(1);
  handle.free();
  try {
    handle.free();
  } catch (error) {
    expect(error).toBeInstanceOf(HoldfastError);
    expect((error as HoldfastError).operation).toBe("Handle.free");
  }
  expect.assertions(2);
});
