package ImsPurge;

# Purges for tests: leases that end early, and what becomes of their
# identities.  The pool has a short D, so that they are given out soon.
#
#   ims_purge_pool($t, size => 20);         # pool web: D 1 s, margin 1 s
#   my $i = ims_ended($t);                  # lease, impu, user
#   ims_rest($t, $i)                        # seconds that it will rest
#   ims_rested($t, $i)                      # waits until it was purged
#   ims_star($m)                            # is that one of a purge
#   ims_gone($core, $link, $m)              # 200: nothing is bound

use strict;
use warnings;

use Exporter qw/ import /;

use Ims;
use ImsSip;

our @EXPORT = qw/ ims_purge_pool ims_ended ims_rest ims_rested ims_star
    ims_gone /;

my $users = 0;


sub ims_purge_pool {
    my ($t, %o) = @_;

    return ims_pool($t, %o, args => [qw/ --delay 1 --margin 1 --purge on /,
                                     @{$o{args} // []}]);
}


# a lease of a new user that was revoked at once; %o: pool, user, live (not
# revoked)

sub ims_ended {
    my ($t, %o) = @_;

    my $pool = $o{pool} // 'web';
    my $user = $o{user} // 'ended' . ++$users;

    my ($status, $i) = ims_poolctl($t, '--json', 'acquire', $pool, $user);
    die "acquire: $i\n" if $status != 0;

    $i->{user} = $user;
    $i->{impu} = $i->{impus};

    ims_revoked($t, $i) unless $o{live};

    return $i;
}


sub ims_revoked {
    my ($t, $i) = @_;

    my ($status, $out) = ims_poolctl($t, 'revoke', 'lease', $i->{lease});
    die "revoke: $out\n" if $status != 0;

    return $i;
}


sub ims_rest {
    my ($t, $i) = @_;

    my $r = (ims_poolctl($t, '--json', 'show', $i->{impu}[0]))[1];

    return ($r->{rest} - $r->{now}) / 1000;
}


sub ims_rested {
    my ($t, $i) = @_;

    return ims_wait(10, sub { ims_rest($t, $i) <= 1 });
}


sub ims_star {
    my ($m) = @_;

    return $m && ($m->{method} // '') eq 'REGISTER'
        && join(',', sip_headers($m, 'Contact')) eq '*'
        && join(',', sip_headers($m, 'Expires')) eq '0';
}


sub ims_gone {
    my ($core, $link, $m, %o) = @_;

    return $core->reply($link, $m, 200, 'OK', contact => '', %o);
}


1;
