"""Networks behind one protocol, with weighted and partly labelled losses."""
