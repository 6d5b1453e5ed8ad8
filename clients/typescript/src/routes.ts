// The operations of the API document, for the compiler: a wrong path, method or member does not compile.

import type { paths } from "./api.js";

type Below<Path> = Path extends `/api/{user_id}${infer Rest}` ? Rest : never;

/** A path below the user's, as the API document writes it. */
export type Path = Below<keyof paths>;

type Operations<P extends Path> = paths[`/api/{user_id}${P}`];

export type Method<P extends Path> = {
  [M in keyof Operations<P>]: Operations<P>[M] extends { responses: object } ? M : never;
}[keyof Operations<P>] &
  string;

type Json<Part> = Part extends { content: { "application/json": infer Body } } ? Body : undefined;
type Operation<P extends Path, M extends Method<P>> = Operations<P>[M];

/** The body of a response that is not an error. */
export type ResponseBody<P extends Path, M extends Method<P>> =
  Operation<P, M> extends { responses: infer Responses }
    ? Json<Responses[keyof Responses & (200 | 201 | 204)]>
    : never;

/** The body of a request. */
export type RequestBody<P extends Path, M extends Method<P>> =
  Operation<P, M> extends { requestBody: infer Body } ? Json<Body> : undefined;

/** The query of a request. */
export type Query<P extends Path, M extends Method<P>> =
  Operation<P, M> extends { parameters: { query?: infer Values } } ? Values : undefined;
