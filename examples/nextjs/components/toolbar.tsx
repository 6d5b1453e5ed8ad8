import type { View } from "../lib/use-tasks";

const SHOWS = { open: "Open", done: "Done", all: "All" };
const SORTS = { newest: "Newest first", changed: "Recently changed", title: "By title" };

/** Searches, filters and sorts. */
export function Toolbar({ view, onChange }: { view: View; onChange: (view: View) => void }) {
  return (
    <div className="toolbar" role="search">
      <input
        type="search"
        aria-label="Search"
        placeholder="Search"
        value={view.search}
        onChange={({ target }) => onChange({ ...view, search: target.value })}
      />
      <fieldset>
        <legend>Show</legend>
        {Object.entries(SHOWS).map(([show, label]) => (
          <label key={show}>
            <input
              type="radio"
              name="show"
              checked={view.show === show}
              onChange={() => onChange({ ...view, show: show as View["show"] })}
            />
            {label}
          </label>
        ))}
      </fieldset>
      <select
        aria-label="Sort"
        value={view.sort}
        onChange={({ target }) => onChange({ ...view, sort: target.value as View["sort"] })}
      >
        {Object.entries(SORTS).map(([sort, label]) => (
          <option key={sort} value={sort}>
            {label}
          </option>
        ))}
      </select>
    </div>
  );
}
