//! Syncline keeps business processes in step across SaaS and ERP systems.
