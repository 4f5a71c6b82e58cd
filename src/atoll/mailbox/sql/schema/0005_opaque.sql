-- Contents that were not looked into, because that took too much or ended the process that tried (content role). what:
-- 1 = the listing (ENVELOPE, BODYSTRUCTURE, sort keys), 2 = the text that is searched. version: the product that tried
-- last; another one tries again.
CREATE TABLE opaque (blob INTEGER PRIMARY KEY, what INTEGER NOT NULL, version TEXT NOT NULL);
