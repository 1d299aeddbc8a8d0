/** One part of the matrix of vectors.ts: adopts its rows, then answers queries by their scores. */
import { Handle, type HandleToken } from "holdfast";

export interface Found {
  row: number;
  score: number;
}

/** First the rows, then any number of queries. */
export type Order =
  | { token: HandleToken; first: number; dimensions: number }
  | { query: Float32Array; count: number };

declare const self: Worker;

let rows: Handle;
let matrix: Float32Array<ArrayBuffer>;
let first = 0;
let dimensions = 1;

self.onmessage = ({ data }: MessageEvent<Order>) => {
  if ("token" in data) {
    // Where the main thread filled them: `address` is the same number there and here.
    rows = Handle.adopt(data.token);
    matrix = rows.view(Float32Array);
    ({ first, dimensions } = data);
  } else {
    self.postMessage(nearest(data.query, data.count));
  }
};

/** The rows with the largest inner products. */
function nearest(query: Float32Array, count: number): Found[] {
  const best: Found[] = [];
  for (let row = 0, at = 0; at < matrix.length; row++, at += dimensions) {
    let score = 0;
    for (let i = 0; i < dimensions; i++) score += (matrix[at + i] as number) * (query[i] as number);
    if (best.length === count && score <= best[count - 1]!.score) continue;
    best.push({ row: first + row, score });
    best.sort((one, other) => other.score - one.score);
    if (best.length > count) best.pop();
  }
  return best;
}
