"""`python -m ssl_risk_rs`: the command line, of the interpreter that is meant."""

from ssl_risk_rs.cli import main

if __name__ == "__main__":
    main(prog_name="ssl-risk-rs")
