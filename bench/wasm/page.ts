// The work in a page: puts `churn` where the benchmark can call it.

import { churn } from "./churn.ts";

(globalThis as unknown as { churn: typeof churn }).churn = churn;
