/**
 * What is the same in the browser and in Bun: makes 100,000 orders, lets the module parse and query
 * them, and does the same in plain JavaScript to compare.
 */
import { SmallHeap } from "../../src/wasm.ts";

interface Module {
  memory: WebAssembly.Memory;
  reserve(bytes: number): number;
  parse(): number;
  query(minimum: number): number;
  queryLength(): number;
  clear(): void;
  figures(): number;
}

export interface Outcome {
  rows: number;
  /** Lines of "city,orders,cents", the highest first. */
  answer: string;
  /** What plain JavaScript answers. */
  expected: string;
  milliseconds: number;
  /** Bytes in use by the module after the query, at most, and after everything was freed. */
  inUse: number;
  highWater: number;
  left: number;
  /** What a heap of JavaScript's beside it, in the same memory, says at the end. */
  beside: string;
}

const cities = ["Oslo", "Bergen", "Lima", "Quito", "Accra", "Kyoto", "Turin", "Porto", "Hanoi"];
const products = ["bolt", "nut", "washer", "rivet", "bracket", "hinge", "clamp"];

/** Orders as CSV: the same for the same seed. */
export function orders(rows: number, seed = 1): string {
  let state = seed;
  const below = (bound: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
  const lines = ["id,city,product,count,price"];
  for (let id = 1; id <= rows; id += 1) {
    const price = (1 + below(9999)) / 100;
    const city = cities[below(cities.length)];
    const product = products[below(products.length)];
    lines.push(`${id},${city},${product},${1 + below(50)},${price.toFixed(2)}`);
  }
  return lines.join("\n");
}

/** The query in plain JavaScript. */
function expectedAnswer(csv: string, minimum: number): string {
  const sums = new Map<string, { orders: number; cents: number }>();
  for (const line of csv.split("\n").slice(1)) {
    const [, city = "", , count, price] = line.split(",");
    if (Number(count) < minimum) continue;
    const sum = sums.get(city) ?? { orders: 0, cents: 0 };
    sum.orders += 1;
    sum.cents += Number(count) * Math.round(Number(price) * 100);
    sums.set(city, sum);
  }
  return [...sums]
    .sort(([one, a], [other, b]) => b.cents - a.cents || (one < other ? -1 : 1))
    .map(([city, sum]) => `${city},${sum.orders},${sum.cents}\n`)
    .join("");
}

export async function work(
  source: Uint8Array<ArrayBuffer> | ArrayBuffer,
  rows = 100_000,
): Promise<Outcome> {
  const { instance } = await WebAssembly.instantiate(source, {});
  const module = instance.exports as unknown as Module;
  const csv = orders(rows);
  const bytes = new TextEncoder().encode(csv);
  const minimum = 20;

  // A heap of JavaScript's own in the module's memory: both grow it, neither minds.
  using beside = SmallHeap.wasm({ memory: module.memory });
  const notes = beside.alloc(1000);
  notes.bytes.fill(7);

  const start = performance.now();
  const place = module.reserve(bytes.length);
  // The memory may have grown, so its buffer is looked at only now.
  new Uint8Array(module.memory.buffer, place, bytes.length).set(bytes);
  const parsed = module.parse();
  const at = module.query(minimum);
  const answer = new TextDecoder().decode(
    new Uint8Array(module.memory.buffer, at, module.queryLength()),
  );
  const milliseconds = performance.now() - start;

  const figures = () => [...new BigUint64Array(module.memory.buffer, module.figures(), 13)];
  const [inUse, highWater] = figures().map(Number);
  module.clear();
  const left = Number(figures()[0]);
  if (!notes.bytes.every((byte) => byte === 7)) throw new Error("the notes were overwritten");
  const line = beside.toString();
  return {
    rows: parsed,
    answer,
    expected: expectedAnswer(csv, minimum),
    milliseconds,
    inUse: inUse ?? 0,
    highWater: highWater ?? 0,
    left,
    beside: line,
  };
}
